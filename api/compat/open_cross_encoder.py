"""The constructor of `CrossEncoder`, its attributes and its end: all but scoring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from crossrank.compat.activations import OF_MODEL, ActivationFn, checked_activation
from crossrank.compat.inputs import chosen_prompt
from crossrank.compat.options import (
    check_activation_code,
    check_backend,
    check_prompts,
    find_model,
    read_device,
    refuse,
    refuse_model_options,
)
from crossrank.compat.scorer import PairScorer
from crossrank.engine.closing import ClosedOnLeaving
from crossrank.errors import InvalidInputError
from crossrank.models.artifact import Artifact
from crossrank.resolve import resolve_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from crossrank.models.manifest import Precision, PrecisionChoice

_ABSENT = frozenset(
    {
        *("config", "model", "model_card_data", "modules", "processor", "tokenizer", "transformers_model"),
        *("compile", "cpu", "cuda", "eval", "float", "forward", "half", "parameters", "state_dict", "to", "train"),
        *("fit", "get_backend", "old_fit", "preprocess", "tokenize", "set_keep_in_fp32_modules"),
        *("push_to_hub", "save", "save_pretrained", "save_to_hub"),
        *("start_multi_process_pool", "stop_multi_process_pool"),
    }
)
"""What sentence-transformers' class has besides: torch modules, training, saving, process pools."""


class OpenCrossEncoder(ClosedOnLeaving):
    """A model that is loaded until it is closed."""

    def __init__(  # noqa: PLR0913  sentence-transformers' signature
        self,
        model_name_or_path: str | Path | None = None,
        *,
        modules: None = None,
        device: Any = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: None = None,
        backend: Literal["torch", "onnx"] = "torch",
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: ActivationFn | None = None,
        keep_in_fp32_modules: None = None,
        precision: PrecisionChoice = "fp32",
        threads: int | None = None,
    ) -> None:
        """Find the model, export its checkpoint if there is no export of it yet, and load it.

        Args:
            model_name_or_path: a checkpoint folder, a hub id (without an owner: one of 'cross-encoder'), an artifact
                folder, or an embedded model such as 'default'.
            modules: None.
            device: 'cpu', 'cuda' or 'cuda:1', also as `torch.device`; None takes CUDA where it works.
            prompts: texts that go before a query, by name.
            default_prompt_name: which of them applies where a call names none.
            cache_folder: None; HF_HOME and CROSSRANK_CACHE say it.
            trust_remote_code: let code of the checkpoint run during its export; only together with `activation_fn`.
            revision: branch, tag or commit of a hub repository.
            local_files_only: for folders and embedded models; HF_HUB_OFFLINE says it for hub ids.
            token: None; HF_TOKEN says it.
            model_kwargs: None, or `dtype` float32.
            processor_kwargs: None.
            config_kwargs: None.
            model_card_data: None.
            backend: 'torch' or 'onnx', which are the same here.
            num_labels: None, or what the model has.
            max_length: tokens of a pair, at most the model's, which None takes.
            activation_fn: what is applied to the logits; None takes the model's, which is the checkpoint's, or sigmoid.
            keep_in_fp32_modules: None.
            precision: crossrank's own: 'fp32' gives sentence-transformers' scores within 1e-4, 'int8' is faster on the
                CPU and less exact, 'fp16' is for CUDA.
            threads: crossrank's own: processor threads for scoring; None takes the cores available to the process.

        Raises:
            InvalidInputError: an option has a value that is not supported; the message says what to do instead.
            CrossrankError: otherwise as `Reranker`.
        """
        refuse(
            modules=modules,
            cache_folder=cache_folder,
            token=token,
            model_card_data=model_card_data,
            keep_in_fp32_modules=keep_in_fp32_modules,
            config_kwargs=config_kwargs,
            processor_kwargs=processor_kwargs,
        )
        refuse_model_options(model_kwargs, precision)
        check_backend(backend)
        checked_activation(activation_fn)
        check_activation_code(activation_fn, trust_remote_code=trust_remote_code)
        self._prompts = check_prompts(prompts)
        self._default_prompt_name = default_prompt_name
        chosen_prompt(self._prompts, default_prompt_name, None, None)  # a missing one is refused now
        wanted = read_device(device)
        artifact = resolve_model(
            find_model(model_name_or_path, local_files_only=local_files_only),
            provider=wanted.provider,
            precision=precision,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
        manifest = Artifact.open(artifact).manifest
        if num_labels not in (None, manifest.num_labels):
            raise InvalidInputError(
                f"num_labels={num_labels!r}: {manifest.name!r} has {manifest.num_labels}; another number would need "
                "another head; leave it out"
            )
        if manifest.template is not None:
            raise InvalidInputError(
                f"{manifest.name!r} reads a query and a document within a template, which would be cut apart where the "
                "longer of the two is cut, as CrossEncoder does; crossrank.Reranker takes this model and cuts documents"
            )
        self._num_labels = manifest.num_labels
        self._stated_activation = activation_fn
        # With two labels the artifact's sigmoid of their difference stands for a softmax that the checkpoint states,
        # but also for its stating nothing, which means identity in sentence-transformers.
        unclear = manifest.num_labels != 1 and manifest.activation != "identity"
        self._activation_of_model = None if unclear else OF_MODEL[manifest.activation]
        self._scorer = PairScorer(
            artifact.absolute(),
            provider=wanted.provider,
            precision=precision,
            threads=threads,
            max_length=max_length,
            activation="identity",
            truncation="longest_first",
            devices=wanted.devices,
        )

    @property
    def activation_fn(self) -> ActivationFn | None:
        """What is applied to the logits where a call names nothing; None for two labels of which nothing was stated."""
        return self._activation_of_model if self._stated_activation is None else self._stated_activation

    @activation_fn.setter
    def activation_fn(self, activation_fn: ActivationFn) -> None:
        checked_activation(activation_fn)
        self._stated_activation = activation_fn

    @property
    def prompts(self) -> dict[str, str]:
        """Texts that go before a query, by name."""
        return self._prompts

    @prompts.setter
    def prompts(self, prompts: Mapping[str, str] | None) -> None:
        checked = check_prompts(prompts)
        chosen_prompt(checked, self._default_prompt_name, None, None)
        self._prompts = checked

    @property
    def default_prompt_name(self) -> str | None:
        """Which of the prompts applies where a call names none."""
        return self._default_prompt_name

    @default_prompt_name.setter
    def default_prompt_name(self, default_prompt_name: str | None) -> None:
        chosen_prompt(self._prompts, default_prompt_name, None, None)
        self._default_prompt_name = default_prompt_name

    @property
    def num_labels(self) -> int:
        """Outputs of the model's head."""
        return self._num_labels

    @property
    def max_seq_length(self) -> int:
        """Tokens of a pair at most, special tokens included."""
        return self._scorer.info().max_length

    @property
    def max_length(self) -> int:
        """The former name of `max_seq_length`."""
        return self.max_seq_length

    @property
    def device(self) -> str:
        """What scores: 'cpu' or 'cuda:0', as a string."""
        info = self._scorer.info()
        return f"cuda:{info.devices[0]}" if info.provider == "cuda" else "cpu"

    @property
    def precision(self) -> Precision:
        """What the graph that runs computes in."""
        return self._scorer.info().precision

    def close(self) -> None:
        """Free the sessions. Closing twice does nothing."""
        self._scorer.close()

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse what the class does not have: assigning it would change nothing."""
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(
                f"crossrank.compat's {type(self).__name__} has no attribute {name!r}, and setting it would change "
                "nothing; activation_fn, prompts and default_prompt_name can be set"
            )
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        """Say of what sentence-transformers' class has besides why it is not here."""
        reason = "; there is no torch model here, nothing is trained and nothing saved" if name in _ABSENT else ""
        raise AttributeError(f"crossrank.compat's {type(self).__name__} has no attribute {name!r}{reason}")
