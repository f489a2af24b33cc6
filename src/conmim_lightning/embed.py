"""Write features of images: ``python -m conmim_lightning.embed checkpoint=runs/... images=/my output=x.parquet``.

The features are those that k-NN and frozen probes use. An interrupted command continues when it is given again.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from conmim_lightning.config.check import CONF_DIR, Config, check
from conmim_lightning.runtime.devices import check_devices, use_own_signals
from conmim_lightning.runtime.errors import quiet_libraries
from conmim_lightning.runtime.launch import own_job, run_command
from conmim_lightning.runtime.ranks import global_rank
from conmim_lightning.runtime.results import print_existing


def run(cfg: DictConfig) -> list[Path]:
    """Check a composed configuration, compute the features, and return the paths of the files.

    Raises:
        ValueError: a fault of the configuration, the weights or the images.
    """
    config = check(cfg, "embed")
    from conmim_lightning.data.checks import check_at_least
    from conmim_lightning.embedding.outputs import check_output
    from conmim_lightning.embedding.store import ChunkStore

    quiet_libraries()
    check_devices(config["trainer"])
    check_at_least(1, batch_size=config["batch_size"], chunk_size=config["chunk_size"])
    output = Path(config["output"])
    check_output(output, config["features"] or [""])
    model = _model(config)
    task = _task(config, model)
    chunks, decoder = _chunks(config, model.transform.decoder)
    settings = _settings(config, task, model, chunks, decoder)
    store = ChunkStore(output.with_name(f".{output.name}.chunks"), settings)
    trainer = _compute(config, task, model, chunks, decoder, store)
    trainer.strategy.barrier()
    if not trainer.is_global_zero:
        return []
    if missing := store.missing(len(chunks)):
        raise ValueError(f"{len(missing)} of {len(chunks)} chunks are missing; give the command again to continue")
    return _write(output, store, task, chunks, half=config["half"])


def _write(output: Path, store: Any, task: Any, chunks: Any, *, half: bool) -> list[Path]:
    """Join the chunks to the output; print how many images there are, and return the paths of the files."""
    from conmim_lightning.embedding.outputs import write_output

    def read(features: Sequence[str]) -> Iterator[Any]:
        return (store.read(number, features) for number in range(len(chunks)))

    counts = [(len(chunk.names), len(chunk.broken)) for chunk in read(())]
    images, broken = (sum(numbers) for numbers in zip(*counts, strict=True))
    print(f"{images:,} images have features" + (f", {broken:,} cannot be read" if broken else ""))
    written = write_output(output, read, task.features.shapes, half=half, classes=chunks.classes)
    store.remove()
    return written


def _model(config: Config) -> Any:
    """Return the loaded model, or one from a backbone's configuration with weights of any source."""
    from hydra.utils import instantiate

    from conmim_lightning.data.transforms.crop import CenterSquare
    from conmim_lightning.inference.load import load
    from conmim_lightning.inference.models import LoadedEncoder
    from conmim_lightning.inference.preprocessing import Preprocessing

    if config["checkpoint"]:
        model = load(config["checkpoint"], branch=config["branch"], trust=config["trust"])
        if not isinstance(model, LoadedEncoder):
            raise ValueError(
                f"checkpoint {config['checkpoint']!r} is of a {type(model).__name__}, whose backbone is adapted to "
                "maps; embed takes those of pre-training and classification"
            )
        return model
    backbone, data = instantiate(config["backbone"]), config["data"]
    if not config["backbone"].get("weights"):
        raise ValueError("checkpoint= is needed, or backbone= with backbone.weights=")
    size = backbone.patch_embed.img_size[0]
    common = {"mean": data["mean"], "std": data["std"], "decoder": instantiate(data["decoder"])}
    return LoadedEncoder(backbone, Preprocessing(CenterSquare(size), size=size, **common))


def _task(config: Config, model: Any) -> Any:
    from conmim_lightning.embedding.task import EmbeddingTask
    from conmim_lightning.models.image_features import default_feature

    features = config["features"] or [default_feature(model.backbone)]
    return EmbeddingTask(model.backbone, normalize=model.transform.normalize, features=features, half=config["half"])


def _chunks(config: Config, decoder: Any) -> tuple[Any, Any]:
    """Return the collection in chunks, and the decoder of its images."""
    from hydra.utils import instantiate

    from conmim_lightning.data.sources.paths import open_images
    from conmim_lightning.embedding.chunks import in_chunks

    if config["images"]:
        source = open_images(config["images"], decoder.formats)
    else:
        if config["data"]["root"] is None:
            raise ValueError("images= is needed, or data.root= with data=folder, manifest, shards, stream, ...")
        data = instantiate(config["data"])
        data.prepare_data()
        source, channels = data.open_source(), decoder.channels
        decoder = data.decoder
        if decoder.channels != channels:
            raise ValueError(f"data.decoder.channels is {decoder.channels}, but the model takes {channels} channels")
    for note in source.notes:
        if global_rank() == 0:
            print(note)
    return in_chunks(source, config["chunk_size"]), decoder


def _settings(config: Config, task: Any, model: Any, chunks: Any, decoder: Any) -> dict[str, Any]:
    """Return everything that the features depend on."""
    from conmim_lightning.embedding.store import digest_of_weights

    return {
        "images": chunks.fingerprint(),
        "weights": digest_of_weights(task.features.backbone),
        "preprocessing": f"{model.transform} {vars(decoder)}",
        "features": task.features.features,
        "half": config["half"],
    }


def _compute(config: Config, task: Any, model: Any, chunks: Any, decoder: Any, store: Any) -> Any:
    """Compute and store the chunks that are missing; return the trainer."""
    from hydra.utils import instantiate

    from conmim_lightning.callbacks.heartbeat import Heartbeat
    from conmim_lightning.data.cores import loader_processes
    from conmim_lightning.embedding.dataset import ChunkDataset, chunk_loader
    from conmim_lightning.embedding.writer import ChunkWriter

    settings = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    writer = ChunkWriter(store)
    trainer = instantiate(config["trainer"], callbacks=[Heartbeat(), writer], **settings, enable_progress_bar=False)
    use_own_signals(trainer)
    if trainer.is_global_zero:
        store.create()
    missing = store.missing(len(chunks))
    if trainer.is_global_zero and len(missing) < len(chunks):
        print(f"{len(chunks) - len(missing)} of {len(chunks)} chunks are stored already")
    own = [number for number in missing if number % trainer.world_size == trainer.global_rank]
    counts = [chunks.count(number) for number in own]
    writer.total = None if None in counts else sum(counts)
    dataset = ChunkDataset(
        chunks,
        own,
        decoder=decoder,
        crop=model.transform.crop,
        size=model.transform.size,
        batch_size=config["batch_size"],
    )
    trainer.predict(task, chunk_loader(dataset, loader_processes(config["num_workers"])), return_predictions=False)
    return trainer


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="embed")
def main(cfg: DictConfig) -> None:
    """Compute the features; print the paths of the files."""
    with own_job():
        written = run(cfg)
    print_existing(written)


if __name__ == "__main__":
    run_command(main)
