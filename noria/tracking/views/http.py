"""The routes of saved views."""

from __future__ import annotations

from noria.http.route import Routes, delete, get, patch, post
from noria.kernel.errors import Invalid
from noria.kernel.op import Op
from noria.kernel.paging import Page, check_limit
from noria.tracking.views.model import NewView, View, ViewChange
from noria.tracking.views.service import Views


def routes(views: Views) -> Routes:
    @get("/api/v1/views", action="view.read")
    def list_views(
        op: Op, of: str = "runs", experiment: str | None = None, limit: int | None = None, page: str = ""
    ) -> Page[View]:
        """Saved views the caller may see, by name. `of`: runs or compare; `experiment`: of this one and of all runs."""
        if of not in ("runs", "compare"):
            raise Invalid("of is runs or compare.", where="of")
        return views.views(
            op, page="runs" if of == "runs" else "compare", scope=experiment, limit=check_limit(limit), after=page
        )

    @post("/api/v1/views", action="view.write", status_code=201)
    def create_view(op: Op, data: NewView) -> View:
        """Save a view of the runs table or of a comparison."""
        return views.create(op, data)

    @get("/api/v1/views/{view_id:str}", action="view.read")
    def read_view(op: Op, view_id: str) -> View:
        """One saved view."""
        return views.get(op, view_id)

    @patch("/api/v1/views/{view_id:str}", action="view.write")
    def change_view(op: Op, view_id: str, data: ViewChange) -> View:
        """Change a view's name, spec or audience; only its owner may."""
        return views.change(op, view_id, data)

    @delete("/api/v1/views/{view_id:str}", action="view.write")
    def delete_view(op: Op, view_id: str) -> None:
        """Remove a view; only its owner may."""
        views.delete(op, view_id)

    return [list_views, create_view, read_view, change_view, delete_view]
