"""Export to a folder that transformers opens without this project."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from conmim_lightning.files import replacing_folder, write_text
from conmim_lightning.weights.exported import ExportedModel, check_backbone_alone, check_empty, largest_difference
from conmim_lightning.weights.names import hugging_face_state

_CLASSIFIERS = {"Beit": "BeitForImageClassification", "ViT": "ViTForImageClassification"}
_ENCODERS = {"Beit": "BeitModel", "ViT": "ViTModel", "Dinov2": "Dinov2Model"}
_TOLERANCE = 1e-5


class HuggingFaceFolder:
    """Export format: a folder with model, configuration, image processor and model card.

    Relative positions become a BEiT of transformers. Absolute positions become a ViT, or, with layer scale, a DINOv2.
    """

    def write(self, model: ExportedModel, output: Path) -> str:
        """Write the folder, after comparing the outputs of what transformers reads from it with the model's.

        Raises:
            ValueError: transformers is not installed or has no such architecture, the folder is not empty, or the
                outputs differ.
        """
        transformers = _transformers()
        check_empty(output)
        check_backbone_alone(model, "transformers")
        family, settings = _architecture(model)
        names = _CLASSIFIERS if model.classes else _ENCODERS
        if family not in names:
            raise ValueError(
                f"transformers' {family} has no classifier of the class token alone; head=false leaves it out"
            )
        config = getattr(transformers, f"{family}Config")(**settings, **_labels(model))
        network = getattr(transformers, names[family])(config).eval()
        state = {
            name: value
            for name, value in model.backbone.state_dict().items()
            if model.head or not name.startswith("head.")
        }
        network.load_state_dict(hugging_face_state(network.state_dict(), state))
        kind = "AutoModelForImageClassification" if model.classes else "AutoModel"
        with replacing_folder(output) as temporary:
            network.save_pretrained(temporary)
            if model.image[0] == 3:
                _processor(transformers, model).save_pretrained(temporary)
            write_text(temporary / "README.md", model.card)
            difference = _difference(model, getattr(transformers, kind).from_pretrained(temporary))
        result = "logits" if model.classes else "last_hidden_state"
        return (
            f'transformers.{kind}.from_pretrained("{output}")(images).{result}\n'
            f"largest difference from the model: {difference:.2g}"
        )


def _architecture(model: ExportedModel) -> tuple[str, dict[str, Any]]:
    """Return transformers' family and its settings; ValueError if it has none."""
    backbone = cast(Any, model.backbone)
    block, family = backbone.blocks[0], type(backbone).__name__
    settings: dict[str, Any] = {
        "hidden_size": backbone.embed_dim,
        "num_hidden_layers": len(backbone.blocks),
        "num_attention_heads": block.attn.num_heads,
        "image_size": model.image[1],
        "patch_size": backbone.patch_embed.patch_size[0],
        "num_channels": model.image[0],
        "layer_norm_eps": block.norm1.eps,
    }
    if family == "Beit":
        return "Beit", settings | _beit_settings(backbone)
    if family != "VisionTransformer":
        raise ValueError(f"transformers has no model with the positions of timm's {family}; use format=timm")
    if isinstance(backbone.norm, nn.Identity):
        raise ValueError("transformers' ViT has no mean pooling before its norm; use format=timm, or head=false")
    hidden, width = block.mlp.fc1.out_features, backbone.embed_dim
    if isinstance(block.ls1, nn.Identity):
        return "ViT", settings | {"intermediate_size": hidden}
    if hidden % width:
        raise ValueError(f"transformers' Dinov2 has no feed-forward network of {hidden} from {width} channels")
    return "Dinov2", settings | {"mlp_ratio": hidden // width}


def _beit_settings(backbone: Any) -> dict[str, Any]:
    block = backbone.blocks[0]
    return {
        "intermediate_size": block.mlp.fc1.out_features,
        "layer_scale_init_value": 0.0 if block.gamma_1 is None else 0.1,  # whether there is one; the weights follow
        "use_absolute_position_embeddings": backbone.pos_embed is not None,
        "use_shared_relative_position_bias": backbone.rel_pos_bias is not None,
        "use_relative_position_bias": block.attn.relative_position_bias_table is not None,
        "use_mean_pooling": isinstance(backbone.norm, nn.Identity),
    }


def _labels(model: ExportedModel) -> dict[str, Any]:
    if not model.classes:
        return {}
    names = dict(enumerate(model.classes))
    return {"id2label": names, "label2id": {name: number for number, name in names.items()}}


def _processor(transformers: Any, model: ExportedModel) -> Any:
    size = model.image[1]
    return transformers.BitImageProcessor(
        size={"shortest_edge": round(size / model.crop_pct)},
        crop_size={"height": size, "width": size},
        resample=3,  # bicubic
        image_mean=list(model.mean),
        image_std=list(model.std),
    )


@torch.no_grad()
def _difference(model: ExportedModel, network: Any) -> float:
    images = torch.randn(2, *model.image, generator=torch.Generator().manual_seed(0))
    assert model.graph is not None
    expected = cast(Tensor, model.graph.cpu().eval()(images))
    outputs = network.eval()(images)
    given = outputs.logits if model.classes else outputs.last_hidden_state
    return largest_difference(given, expected, _TOLERANCE, "transformers' outputs")


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            "format=huggingface needs transformers: pip install 'conmim-lightning[huggingface]'"
        ) from error
    transformers.logging.set_verbosity_error()
    return transformers
