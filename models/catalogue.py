"""The catalogue of well-known public cross-encoders: `catalogue.toml` as validated, frozen records.

The catalogue is data about checkpoints, never the checkpoints themselves. It lets users type a short name, and it
supplies what a checkpoint does not state itself, such as the activation its users apply.
"""

import tomllib
from functools import cache
from importlib import resources
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from crossrank.models.manifest import Activation
from crossrank.models.templates import TemplateName

CATALOGUE_FILE = "catalogue.toml"
USUAL_ONNX_FILES = ("onnx/model.onnx", "model.onnx")
"""Where exporters write the float32 graph in a repository; the first that is there is taken."""

# TOML has arrays only, which Python reads as lists; everything inside is still strictly typed.
_Strings = Annotated[tuple[str, ...], Field(strict=False)]


class ReadyOnnx(BaseModel):
    """Where a ready ONNX file of a model is known to lie."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    file: Annotated[str, Field(pattern=r"\.onnx$", description="its path in the repository")]
    repository: Annotated[
        str, Field(pattern=r"^([^/\s]+/[^/\s]+)?$", description="somebody else's hub id; empty for the model's own")
    ] = ""
    licence: Annotated[str, Field(description="SPDX identifier of that repository; empty where nobody looked it up")]
    verified: Annotated[
        bool, Field(description="seen in a listing of the repository, or pinned by its digest in public code")
    ]


class CatalogueEntry(BaseModel):
    """One public cross-encoder, and what is needed to export and score its checkpoint correctly."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    name: Annotated[str, Field(pattern=r"^[^/\s]+$", description="short key that users type")]
    repository: Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+$", description="hub id, owner/name")]
    aliases: Annotated[_Strings, Field(description="former or common spellings of name and repository")] = ()
    revision: Annotated[
        str, Field(pattern=r"^([0-9a-f]{40})?$", description="commit to export; empty for the newest")
    ] = ""
    model_type: Annotated[str, Field(min_length=1, description="as in the checkpoint's config.json")]
    layers: Annotated[int, Field(ge=1)]
    hidden_size: Annotated[int, Field(ge=1)]
    max_length: Annotated[int, Field(ge=8, description="usable tokens of a pair, special tokens included")]
    uses_segment_ids: Annotated[bool, Field(description="whether the graph takes token_type_ids")]
    activation: Activation
    licence: Annotated[str, Field(min_length=1, description="SPDX identifier")]
    parameters_millions: Annotated[float, Field(gt=0)]
    template: Annotated[
        TemplateName | Literal[""], Field(description="of a language model; empty for the tokenizer's own layout")
    ] = ""
    onnx: Annotated[ReadyOnnx | None, Field(description="a ready float32 graph; None where none is known")] = None
    languages: Annotated[_Strings, Field(min_length=1, description="ISO 639-1 codes, or 'multilingual'")]
    note: Annotated[str, Field(min_length=1)]

    @property
    def keys(self) -> tuple[str, ...]:
        """Every spelling that finds this entry, in lower case."""
        return tuple(key.casefold() for key in (self.name, self.repository, *self.aliases))


class _Catalogue(BaseModel):
    """The whole file; each spelling of a name belongs to one entry."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    model: Annotated[tuple[CatalogueEntry, ...], Field(strict=False, min_length=1)]

    @model_validator(mode="after")
    def _spellings_are_unique(self) -> Self:
        seen: set[str] = set()
        for entry in self.model:
            for key in entry.keys:
                if key in seen:
                    raise ValueError(f"{key!r} occurs twice in the catalogue; each spelling must belong to one entry")
                seen.add(key)
        return self


def parse_catalogue(text: str) -> tuple[CatalogueEntry, ...]:
    """Read a catalogue from the text of a TOML file.

    Args:
        text: TOML with one `[[model]]` table per entry.

    Returns:
        The entries in file order.

    Raises:
        tomllib.TOMLDecodeError: The text is not TOML.
        pydantic.ValidationError: An entry lacks a field or has an unknown or ill-typed one, or a spelling
            occurs twice.
    """
    return _Catalogue.model_validate(tomllib.loads(text)).model


@cache
def load_catalogue() -> tuple[CatalogueEntry, ...]:
    """Return the entries of the shipped catalogue in file order; the file is read once per process."""
    file = resources.files("crossrank.models").joinpath(CATALOGUE_FILE)
    return parse_catalogue(file.read_text(encoding="utf-8"))


def find_entry(name: str) -> CatalogueEntry | None:
    """Find a catalogue entry by its short name, its repository id, or an alias of either.

    Args:
        name: What the user typed; case does not matter.

    Returns:
        The entry, or None if the catalogue has no such name.
    """
    key = name.casefold()
    return next((entry for entry in load_catalogue() if key in entry.keys), None)
