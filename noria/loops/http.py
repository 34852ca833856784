"""The routes of loops."""

from __future__ import annotations

from noria.http.route import Routes, delete, get, post, put
from noria.kernel.op import Op
from noria.kernel.paging import Page
from noria.loops.model import Loop, LoopPage, LoopSpec, RunRequest, StopRequest, Turn
from noria.loops.service import Loops


def routes(loops: Loops) -> Routes:
    @get("/api/v1/loops", action="loop.read")
    def list_loops(op: Op, limit: int | None = None, page: str = "") -> Page[Loop]:
        """Loops the caller may see, with their last turn."""
        return loops.loops(op, limit=limit, page=page)

    @post("/api/v1/loops", action="loop.write", status_code=201)
    def create_loop(op: Op, data: LoopSpec) -> Loop:
        """Declare a loop; it acts with the caller's rights."""
        return loops.create(op, data)

    @get("/api/v1/loops/{name:str}", action="loop.read")
    def read_loop(op: Op, name: str) -> LoopPage:
        """A loop with its spec, its newest turns with their moves, and the alerts that wait."""
        return loops.page(op, name)

    @put("/api/v1/loops/{name:str}", action="loop.write")
    def put_loop(op: Op, name: str, data: LoopSpec) -> Loop:
        """Make a loop, or replace its spec; a turn under way keeps its own."""
        return loops.put(op, name, data)

    @delete("/api/v1/loops/{name:str}", action="loop.write")
    def delete_loop(op: Op, name: str) -> None:
        """Remove a loop that has no turn under way."""
        loops.delete(op, name)

    @get("/api/v1/loops/{name:str}/turns", action="loop.read")
    def list_turns(op: Op, name: str, limit: int | None = None, page: str = "") -> Page[Turn]:
        """The turns of a loop, newest first."""
        return loops.turns(op, name, limit=limit, page=page)

    @get("/api/v1/turns/{turn_id:str}", action="loop.read")
    def read_turn(op: Op, turn_id: str) -> Turn:
        """One turn with its moves."""
        return loops.turn(op, turn_id)

    @post("/api/v1/loops/{name:str}/run", action="loop.run")
    def run_loop(op: Op, name: str, data: RunRequest | None = None) -> Turn:
        """Start a turn by hand."""
        asked = data or RunRequest()
        return loops.run(op, name, asked.params, asked.reason)

    @post("/api/v1/loops/{name:str}/stop", action="loop.run")
    def stop_loop(op: Op, name: str, data: StopRequest | None = None) -> Loop:
        """The stop button: end the turn under way now, and begin no other."""
        return loops.stop(op, name, (data or StopRequest()).reason)

    @post("/api/v1/loops/{name:str}/start", action="loop.run")
    def start_loop(op: Op, name: str) -> Loop:
        """Let a stopped loop take turns again."""
        return loops.start(op, name)

    return [
        list_loops, create_loop, read_loop, put_loop, delete_loop, list_turns, read_turn, run_loop, stop_loop, start_loop,
    ]  # fmt: skip
