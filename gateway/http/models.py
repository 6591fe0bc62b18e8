"""`GET /v1/models` and `GET /v1/models/{id}`, also where Azure's clients look: what this key may use."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter
from pydantic import BaseModel, ConfigDict

from gateway.http.authenticate import Authenticator
from gateway.routing.catalog import Catalog, ServedModel

ALIASES = ("/openai/v1/models", "/openai/models")
"""Other URLs of the list: https://learn.microsoft.com/azure/ai-services/openai/reference"""


class ModelObject(BaseModel):
    """OpenAI's model object, and what people look for next."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: str = "model"
    created: int
    """Unix seconds."""
    owned_by: str
    aliases: list[str]
    """Other names for the same model."""
    context_length: int | None
    """Tokens of prompt and answer together; null where the configuration does not say."""
    max_model_len: int | None
    """The same, under vLLM's name for it."""
    modalities: list[str]
    """What a prompt may hold."""
    root: str
    """The model that an adapter stands on; of any other model, itself."""
    parent: str | None
    """The same of an adapter; null for any other model."""


class ModelList(BaseModel):
    """OpenAI's list of models."""

    object: str = "list"
    data: list[ModelObject]


def routes(authenticate: Authenticator, catalog: Catalog) -> list[HTTPRouteHandler]:
    """Return the handlers."""

    def list_models(request: Request[Any, Any, Any]) -> ModelList:
        """Models the API key may use."""
        principal = authenticate(request.scope["headers"], request.scope["client"])
        return ModelList(data=[_show(model) for model in catalog.visible(principal)])

    def show_model(
        request: Request[Any, Any, Any],
        model_id: Annotated[str, Parameter(description="A model's name or alias; it may contain slashes.")],
    ) -> ModelObject:
        """One model, by name or alias."""
        principal = authenticate(request.scope["headers"], request.scope["client"])
        return _show(catalog.find(str(model_id).removeprefix("/"), principal))

    lists: dict[str, Any] = {"summary": "List models", "tags": ["models"], "sync_to_thread": False}
    shows: dict[str, Any] = {"summary": "Show a model", "tags": ["models"], "sync_to_thread": False}
    return [
        get("/v1/models", **lists)(list_models),
        get("/v1/models/{model_id:path}", **shows)(show_model),
        # One operation of the document has one path: docs_document.py names these.
        get(list(ALIASES), include_in_schema=False, **lists)(list_models),
        get([f"{path}/{{model_id:path}}" for path in ALIASES], include_in_schema=False, **shows)(show_model),
    ]


def _show(model: ServedModel) -> ModelObject:
    config = model.config
    return ModelObject(
        id=config.name,
        created=config.created,
        owned_by=config.owned_by,
        aliases=list(config.aliases),
        context_length=config.context_length,
        max_model_len=config.context_length,
        modalities=list(config.modalities),
        root=model.parent or model.name,
        parent=model.parent,
    )
