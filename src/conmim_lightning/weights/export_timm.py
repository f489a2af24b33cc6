"""Export to a folder that timm opens without this project.

``timm.create_model("local-dir:/folder", pretrained=True, num_classes=0)``. Without ``pretrained``, timm only reads the
configuration and initialises the weights at random.
"""

import inspect
import json
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models import save_for_hf
from torch import Tensor, nn

from conmim_lightning.files import replacing_folder, write_text
from conmim_lightning.weights.exported import ExportedModel, check_backbone_alone, check_empty, sha256_of
from conmim_lightning.weights.state_diff import state_diff

ARCHITECTURES = {
    "Beit": "beit_base_patch16_224",
    "VisionTransformer": "vit_base_patch16_224",
    "Eva": "vit_base_patch16_rope_224",
}
"""timm's model name to build each family from; the export stores every argument that could differ."""

_JSON_TYPES = (bool, int, float, str)


class TimmFolder:
    """Export format: ``model.safetensors``, timm's ``config.json`` and ``README.md`` in a folder."""

    def write(self, model: ExportedModel, output: Path) -> str:
        """Write the folder, after checking that timm builds the same model from it.

        Raises:
            ValueError: the family is unknown, the folder is not empty, or timm would build another model.
        """
        check_empty(output)
        check_backbone_alone(model, "timm")
        architecture, arguments = recipe(model)
        copy = timm.create_model(architecture, pretrained=False, **arguments)
        state = model.state()
        if difference := state_diff(copy.state_dict(), state):
            family = type(model.backbone).__name__
            raise ValueError(f"timm builds another {family} from {architecture} and {arguments} {difference.summary()}")
        copy.load_state_dict(state)
        images = (arguments.get("in_chans", 3), *cast(tuple[int, int], copy.get_submodule("patch_embed").img_size))
        difference = _largest_difference(model.backbone, copy, images)
        pretrained_cfg = cast(dict[str, Any], copy.pretrained_cfg)
        pretrained_cfg |= {"input_size": images, "mean": tuple(model.mean), "std": tuple(model.std)}
        pretrained_cfg |= {"interpolation": "bicubic", "crop_pct": model.crop_pct}
        pretrained_cfg |= {"tag": "conmim", "license": None}  # timm's values are for its own weights
        if model.classes:
            pretrained_cfg |= {"label_names": list(model.classes), "num_classes": len(model.classes)}
        copy.pretrained_cfg = pretrained_cfg  # type: ignore[assignment]
        with replacing_folder(output) as temporary:
            save_for_hf(copy, str(temporary), model_args=arguments, safe_serialization=True)
            _complete_config(temporary)
            write_text(temporary / "README.md", model.card)
        return (
            f'timm.create_model("local-dir:{output}", pretrained=True, num_classes=0)\n'
            f"largest difference from the model: {difference:.2g}"
        )


def _complete_config(folder: Path) -> None:
    """Change the configuration so that transformers reads it as well, and store the digest of the weights."""
    config = json.loads((folder / "config.json").read_text())
    config["model_args"].pop("num_classes", None)  # it also stands beside them; transformers passes it twice otherwise
    if names := config["pretrained_cfg"].pop("label_names", None):
        config["label_names"] = names  # where transformers looks for them; timm looks in both places
    config["sha256"] = sha256_of(folder / "model.safetensors")  # timm ignores it, ``read_weights`` compares it
    write_text(folder / "config.json", json.dumps(config, indent=2))


def recipe(model: ExportedModel) -> tuple[str, dict[str, Any]]:
    """Return timm's name of the architecture, and all arguments that build the model from it."""
    without_head = {} if model.head else {"num_classes": 0}
    if model.architecture is None:
        family = type(model.backbone)
        if family.__name__ not in ARCHITECTURES:
            raise ValueError(f"{family.__name__} cannot be exported; known are {', '.join(ARCHITECTURES)}")
        return ARCHITECTURES[family.__name__], full_arguments(family, dict(model.arguments)) | without_head
    config = Path(model.architecture.removeprefix("local-dir:"), "config.json")
    if config.is_file():  # an exported folder records how it was built
        content = json.loads(config.read_text())
        return content["architecture"], content.get("model_args", {}) | dict(model.arguments) | without_head
    return model.architecture, dict(model.arguments) | without_head


def full_arguments(family: type[nn.Module], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments plus all defaults that JSON can represent; timm's named architectures have other defaults."""
    parameters = inspect.signature(family).parameters
    defaults = {name: p.default for name, p in parameters.items() if isinstance(p.default, _JSON_TYPES)}
    given = {name: value for name, value in arguments.items() if name in parameters and isinstance(value, _JSON_TYPES)}
    return defaults | given


@torch.no_grad()
def _largest_difference(model: nn.Module, copy: nn.Module, size: tuple[int, ...]) -> float:
    """Compare output tokens, because weights do not determine number of heads, rotations and activations."""
    images = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    tokens = [cast(Tensor, one.eval().cpu().forward_features(images)) for one in (model, copy)]  # type: ignore[operator]
    if not torch.allclose(*tokens, rtol=1e-5, atol=1e-5):
        raise ValueError("timm builds a model from these arguments whose tokens differ; it is not exported")
    return float((tokens[0] - tokens[1]).abs().max())
