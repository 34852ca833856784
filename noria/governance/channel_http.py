"""The routes of channels."""

from __future__ import annotations

from noria.governance.channel_model import Channel, ChannelDelivery, ChannelTest, NewChannel
from noria.governance.channels import Channels
from noria.http.route import Routes, delete, get, post, put
from noria.kernel.op import Op
from noria.kernel.paging import Page


def routes(channels: Channels) -> Routes:
    @get("/api/v1/channels", action="webhook.read")
    def list_channels(op: Op) -> Page[Channel]:
        """Where people are told of alerts."""
        return Page(channels.channels(op))

    @get("/api/v1/channels/{name:str}", action="webhook.read")
    def read_channel(op: Op, name: str) -> Channel:
        """One channel; its address is never shown whole."""
        return channels.channel(op, name)

    @put("/api/v1/channels/{name:str}", action="webhook.write")
    def save_channel(op: Op, name: str, data: NewChannel) -> Channel:
        """Make a channel or change it; without an address the one that is there stays."""
        return channels.save(op, name, data)

    @delete("/api/v1/channels/{name:str}", action="webhook.write")
    def delete_channel(op: Op, name: str) -> None:
        """Remove a channel."""
        channels.delete(op, name)

    @post("/api/v1/channels/{name:str}/test", action="webhook.write")
    def test_channel(op: Op, name: str) -> ChannelTest:
        """Send a message there now, and say what became of it."""
        return channels.test(op, name)

    @get("/api/v1/channels/{name:str}/deliveries", action="webhook.read")
    def list_channel_deliveries(op: Op, name: str, limit: int | None = None, page: str = "") -> Page[ChannelDelivery]:
        """What was sent to a channel, newest first."""
        return channels.deliveries(op, name, limit=limit, page=page)

    return [list_channels, read_channel, save_channel, delete_channel, test_channel, list_channel_deliveries]
