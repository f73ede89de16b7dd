"""The schema of `manifest.json`, the file that describes an artifact.

The schema is strict: unknown keys are refused, so a foreign or newer file never half-loads. `SCHEMA_VERSION` rises
with every change that an older reader could misread.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 4
"""2 added `verification`, 3 `source.files_sha256`, 4 three labels and more, `label_names`, `source.code_sha256`,
`causal` and `template`; older manifests lack them."""

Precision = Literal["fp32", "fp16", "int8"]
Provider = Literal["cpu", "cuda"]
PrecisionChoice = Literal["auto", "fp32", "fp16", "int8"]
ProviderChoice = Literal["auto", "cpu", "cuda"]
"""What users ask for: 'auto' takes what suits the machine and the artifact."""
Activation = Literal["identity", "sigmoid"]
Batching = Literal["padded", "packed", "equal_length", "single"]
PACKED_ROWS = 8
"""Pairs that a run of a packed graph holds at most: the graph has a copy of each attention for every one of them."""


def _inside_the_folder(path: str) -> str:
    """Accept a file name below the artifact folder and nothing else."""
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in path or str(pure) != path:
        raise ValueError(
            f"path {path!r} leaves the artifact folder; expected a plain relative path such as 'fp32.onnx'"
        )
    return path


RelativePath = Annotated[str, AfterValidator(_inside_the_folder)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    # Infinities and NaN have no JSON: a manifest that held one would be written as one that cannot be read.
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class FileRecord(_Strict):
    """One file of the artifact besides the manifest itself."""

    path: RelativePath
    size: Annotated[int, Field(ge=0, description="bytes")]
    sha256: Sha256


class Source(_Strict):
    """Where the weights came from."""

    kind: Literal["local", "hub", "onnx"]
    id: Annotated[str, Field(description="hub id, of an ONNX file too, or the name of the local folder or file")]
    revision: Annotated[str, Field(description="commit of the hub repository; empty for local sources")] = ""
    weights_sha256: Annotated[dict[str, Sha256], Field(description="weight file name to its digest")]
    files_sha256: Annotated[
        dict[str, Sha256], Field(description="the other files that were fetched with an ONNX file, to their digests")
    ] = {}
    code_sha256: Annotated[
        dict[str, Sha256],
        Field(description="Python files of the checkpoint's own that ran during the export, to their digests"),
    ] = {}
    licence: str = ""


class Architecture(_Strict):
    """Dimensions of the transformer, as its configuration tells them (0 where an imported graph does not say)."""

    model_type: str
    hidden_size: int = 0
    intermediate_size: int = 0
    num_hidden_layers: int = 0
    num_attention_heads: int = 0
    vocab_size: int = 0


class PassRecord(_Strict):
    """One graph pass of the export and what it did."""

    name: str
    changed: bool
    detail: str = ""


class Fidelity(_Strict):
    """How far a graph's logits are from its reference on the verification pairs.

    Measured on the CPU, which computes in float32: of an fp16 graph it shows the rounding of the weights and no more.
    """

    reference: Annotated[str, Field(description="'pytorch', 'fp32', or 'self' (single against padded batches)")]
    queries: int
    pairs: int
    max_abs_logit_difference: float
    kendall_tau: Annotated[float | None, Field(description="mean over queries; None where not applicable")] = None
    top10_overlap: Annotated[float | None, Field(description="mean share of the reference's first ten")] = None


class Graph(_Strict):
    """One ONNX graph of the artifact."""

    file: RelativePath
    external_data: tuple[RelativePath, ...] = ()
    precision: Precision
    opset: int
    providers: tuple[Provider, ...]
    inputs: Annotated[tuple[str, ...], Field(description="names the graph takes, in its order")]
    batching: Annotated[
        Batching,
        Field(
            description="'padded': pairs of several lengths may share a run; 'packed': the same, up to 8 of them, and "
            "padding costs nothing; 'equal_length': only pairs of exactly one length; 'single': one pair a run, "
            "because a pair's score would depend on the rest of the batch otherwise"
        ),
    ] = "padded"
    passes: tuple[PassRecord, ...] = ()
    fidelity: Fidelity
    reference_logits: Annotated[
        tuple[float, ...], Field(description="logit of each of the manifest's reference pairs, one pair a run")
    ]


class ReferencePair(_Strict):
    """A pair whose logits are recorded per graph, so that another machine can check itself."""

    query: str
    document: str


class Template(_Strict):
    """The text that a model was trained to find around a query and a document.

    A pair is the tokens of `prefix`, of the query within its text, of `middle`, of the document within its text, and of
    `suffix`. Each of these texts, and each part of prefix, middle and suffix, is tokenized by itself, without special
    tokens other than those it spells out.
    """

    name: Annotated[str, Field(min_length=1)]
    prefix: Annotated[tuple[str, ...], Field(description="what comes before the query")] = ()
    instruction_text: Annotated[
        str | None,
        Field(description="goes directly before the query's text, with {instruction}; None: the model takes none"),
    ] = None
    query: Annotated[str, Field(description="with {query}")]
    middle: tuple[str, ...] = ()
    document: Annotated[str, Field(description="with {document} at its end")]
    suffix: Annotated[tuple[str, ...], Field(description="what comes after the document")] = ()
    instruction: Annotated[str | None, Field(description="where the caller gives none; None leaves its text out")] = (
        None
    )

    @model_validator(mode="after")
    def _has_its_places(self) -> Self:
        if self.query.count("{query}") != 1:
            raise ValueError(f"the query's text {self.query!r} has to hold {{query}} once")
        if self.document.count("{document}") != 1 or not self.document.endswith("{document}"):
            raise ValueError(f"the document's text {self.document!r} has to end with its only {{document}}")
        if self.instruction_text is not None and self.instruction_text.count("{instruction}") != 1:
            raise ValueError(f"the instruction's text {self.instruction_text!r} has to hold {{instruction}} once")
        if self.instruction is not None and self.instruction_text is None:
            raise ValueError("there is an instruction and no text for it")
        return self


class Verification(_Strict):
    """What the artifact's scores were compared with when it was made."""

    reference: Annotated[str, Field(description="the library that scored, or the ONNX file itself, with its version")]
    tokens: Annotated[str, Field(description="what token ids were compared with")]
    probes: Annotated[
        int, Field(ge=0, description="pairs whose scores change where a checkpoint is misread, besides the graphs' own")
    ]
    max_abs_difference: Annotated[
        float, Field(ge=0, description="largest difference from the reference over the probes that were scored")
    ]


class Manifest(_Strict):
    """Everything the engine and its users need to know of an artifact."""

    schema_version: int = SCHEMA_VERSION
    name: str
    crossrank_version: str
    library_versions: dict[str, str]
    source: Source
    architecture: Architecture
    tokenizer: RelativePath = "tokenizer.json"
    max_length: Annotated[int, Field(ge=8, description="usable tokens of a pair, special tokens included")]
    pad_token_id: Annotated[int, Field(ge=0)]
    uses_segment_ids: bool
    num_labels: Annotated[int, Field(ge=1, description="numbers that a graph gives for a pair")] = 1
    positive_label: Annotated[
        int,
        Field(
            ge=0,
            description="with several labels, the one that means relevant: logit = z[it] - log(sum(exp(z[others]))), "
            "whose sigmoid is the label's softmax probability",
        ),
    ] = 0
    label_names: Annotated[
        tuple[str, ...], Field(description="of several labels, in their order; empty where the checkpoint names none")
    ] = ()
    activation: Activation
    causal: Annotated[
        bool,
        Field(
            description="tokens attend to those before them only, and graphs take keys and values of a pair's "
            "beginning, as inputs beginning.keys.0, beginning.values.0, ... and give them as outputs keys.0, values.0"
        ),
    ] = False
    template: Annotated[
        Template | None, Field(description="None: pairs are laid out as the tokenizer's post-processor says")
    ] = None
    graphs: Annotated[tuple[Graph, ...], Field(min_length=1)]
    reference_pairs: tuple[ReferencePair, ...]
    files: Annotated[tuple[FileRecord, ...], Field(min_length=1)]
    verification: Annotated[
        Verification | None, Field(description="None in artifacts of schema version 1, which did not record it")
    ] = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        recorded = [record.path for record in self.files]
        if len(set(recorded)) != len(recorded):
            raise ValueError("a file is recorded twice")
        for graph in self.graphs:
            for path in (graph.file, *graph.external_data):
                if path not in recorded:
                    raise ValueError(f"graph file {path!r} has no size and sha256 among the files")
            if len(graph.reference_logits) != len(self.reference_pairs):
                raise ValueError(
                    f"graph {graph.file!r} has {len(graph.reference_logits)} reference logits "
                    f"for {len(self.reference_pairs)} reference pairs"
                )
        if self.positive_label >= self.num_labels or len(self.label_names) not in (0, self.num_labels):
            raise ValueError(
                f"positive label {self.positive_label} of {self.num_labels}, named {list(self.label_names)}: one of "
                f"the labels, and a name for each or for none expected"
            )
        if self.tokenizer not in recorded:
            raise ValueError(f"tokenizer {self.tokenizer!r} has no size and sha256 among the files")
        targets = [(graph.precision, provider) for graph in self.graphs for provider in graph.providers]
        if len(set(targets)) != len(targets):
            raise ValueError(f"one graph for each precision and provider expected, given {targets}")
        return self
