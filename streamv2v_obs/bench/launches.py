"""How many kernels a frame launches, as it is and compiled: counted on the graph of Stable Diffusion 1.5's own shapes.

Nothing is computed: tensors have shapes and no contents, and Inductor lowers and fuses the graph without writing code.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from streamv2v_obs.bench import results, shapes
from streamv2v_obs.bench.models import sd15_unet, taesd
from streamv2v_obs.bench.shapes import CPU, Launches, place
from streamv2v_obs.bench.subject import Say
from streamv2v_obs.settings import SpeedSettings, TranslatorSettings
from streamv2v_obs.translator.conformance import stable_diffusion_acp
from streamv2v_obs.translator.fused_graph import rewrite
from streamv2v_obs.translator.latent import LatentTranslator
from streamv2v_obs.translator.pixels import Autoencoder
from streamv2v_obs.translator.rungs import Rungs
from streamv2v_obs.translator.static_frame import StaticFrame
from streamv2v_obs.translator.stream_batch import Origin

NO_RUNG = SpeedSettings(
    joined_qkv=False, padded_heads=False, cached_prompt=False, cached_time=False, late_update=False
)
"""Our own frame with every projection by itself, prompt and time computed with every frame."""
OURS = SpeedSettings(padded_heads=False)
COMPILED = SpeedSettings(
    padded_heads=False, fused_activations=True, fused_norms=True, folded_output=True, direct_keys=True
)
"""What a compiled frame can have on a GPU beside that; some of it has to be asked for."""


def fused_kernels(graph: Any, inputs: list[Any]) -> Counter[str]:
    """What Inductor makes of a graph of ATen operations: library calls and fused loops, by what they do."""
    from torch._inductor import ir
    from torch._inductor.debug import DebugContext
    from torch._inductor.fx_passes.post_grad import post_grad_passes
    from torch._inductor.graph import GraphLowering
    from torch._inductor.scheduler import NopKernelSchedulerNode
    from torch._inductor.virtualized import V

    post_grad_passes(graph, is_inference=True)
    lowering: Any = GraphLowering(graph, example_inputs=inputs, is_inference=True)
    with V.set_debug_handler(DebugContext()), V.set_extern_kernel_nodes([]), V.set_graph_handler(lowering):
        lowering.run(*inputs)
        lowering.init_wrapper_code()
        lowering._update_scheduler()
    # Memory laid out launches nothing, and one of several answers of a library call is no call of its own.
    return Counter(
        _purpose(node)
        for node in lowering.scheduler.nodes
        if not isinstance(node, NopKernelSchedulerNode) and not isinstance(node.node, ir.MultiOutput)
    )


_LIBRARY = (
    ("conv", "convolution"),
    ("attention", "attention"),
    ("sum_group_norm", "group normalisation, our kernel"),
    ("mm", "matrix product"),
    ("product_into", "matrix product"),
)
_LOOPS = (("var_mean", "statistics of a normalisation"), ("aten.relu", "activation of the autoencoder"))


def _purpose(node: Any) -> str:
    """Of a node of Inductor's scheduler."""
    if node.is_extern():
        kernel = f"{getattr(node.node, 'python_kernel_name', '')} {getattr(node.node, 'op_overload', '')}"
        return next((f"library: {name}" for word, name in _LIBRARY if word in kernel), "library: other")
    made_of = {str(origin.target) for part in node.get_nodes() for origin in part.node.origins}
    found = (f"loop: {name}" for word, name in _LOOPS if any(word in target for target in made_of))
    return next(found, "loop: other, additions and activations")


class Counted(Exception):
    """Instead of running what was counted."""


def counting(found: list[Counter[str]], rungs: Rungs) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """A compiler that appends to ``found`` what a graph would launch; calling the graph raises ``Counted``.

    Our own operations are counted as what they are on a GPU, one launch each.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # over its own use of torch.jit
        from torch._inductor.compile_fx import compile_fx

    def inner(graph: Any, inputs: list[Any], **_: Any) -> Any:
        found.append(fused_kernels(graph, inputs))

        def run(given: list[Any]) -> Any:
            raise Counted

        run._boxed_call = True  # type: ignore[attr-defined]
        return run

    def backend(graph: Any, inputs: list[Any]) -> Any:
        rewrite(graph, rungs)
        return compile_fx(graph, inputs, inner_compile=inner)

    def compiled(work: Callable[[], None]) -> Callable[[], None]:
        made: Any = torch.compile(work, backend=backend, fullgraph=True, dynamic=False)
        return made  # type: ignore[no-any-return]

    return compiled


def count_frame(
    unet: Any, coder: Any, steps: int, size: int, speed: SpeedSettings, *, compiling: bool = True
) -> results.Section:
    """Launches of one frame with a full bank, pixels to pixels, and of an update. To be called in a FakeTensorMode.

    ``compiling`` Stable Diffusion's takes a minute.
    """
    shape = (int(unet.config.in_channels), size // 8, size // 8)
    settings = TranslatorSettings(steps=steps, schedule="stream" if steps > 1 else "auto", speed=speed)
    core = LatentTranslator(unet, stable_diffusion_acp(), "epsilon", settings, shape, CPU, torch.float16)
    words = torch.zeros((1, 77, int(unet.config.cross_attention_dim)), dtype=torch.float16)
    kernels: list[Counter[str]] = []
    # Those of a GPU, which is not there to be asked.
    fused = {"fused_activations": speed.fused_activations is True, "fused_norms": speed.fused_norms is True}
    rungs = Rungs(graphs=False, compile=True, pinned=False, late_update=True, **fused)
    frame = StaticFrame(core, Autoencoder(coder), (size, size), rungs, compiler=counting(kernels, rungs))
    with torch.inference_mode():
        core.rows.fill(torch.zeros((1, *shape)))
        core.admit(words, Origin(0.0, 0))
        frame.frame()
        core.depart()
        core.settle()
        core.admit(words, Origin(0.0, 1))
        with Launches() as eager:
            frame.frame()
        partitions = [torch.zeros((steps, 2 * layer.tokens), dtype=torch.int64) for layer in core.layers]
        bank = core.bank
        assert bank is not None  # noqa: S101 - the settings have one
        bank.prepare_update(partitions)
        with Launches() as update:
            bank.compute_update()
    found: results.Section = {"eager": eager.count, "update": update.count}
    if compiling:
        with torch.no_grad(), warnings.catch_warnings(), contextlib.suppress(Counted):
            warnings.simplefilter("ignore")  # the compiler's, over the libraries' own code
            frame._work()
        (compiled,) = kernels
        found |= {"compiled": sum(compiled.values()), "compiled_parts": dict(compiled.most_common())}
    core.close()
    return found


def measure(steps: int, size: int, out: Path, say: Say, make: Callable[[], tuple[Any, Any]] | None = None) -> Path:
    """Write ``out``/launches_sd15_sS.json; ``make`` stands in for Stable Diffusion's UNet and TAESD."""
    load_before = results.load_now()
    arms: results.Section = {}
    for name, speed in (("no rung", NO_RUNG), ("ours", OURS), ("fused", COMPILED)):
        torch._dynamo.reset()
        with torch.device("meta"):
            unet, coder = make() if make is not None else (sd15_unet(), taesd())
        for module in (unet, coder):
            module.half().eval().requires_grad_(False).to(memory_format=torch.channels_last)
        with FakeTensorMode(allow_non_fake_inputs=True):
            place(unet)
            place(coder)
            arms[name] = count_frame(unet, coder, steps, size, speed, compiling=speed is not NO_RUNG)
        say(f"{name}: {arms[name]['eager']} launches a frame as it is")
    for name in ("ours", "fused"):
        parts = ", ".join(f"{count} {part}" for part, count in arms[name]["compiled_parts"].items())
        say(f"{name}: {arms[name]['compiled']} compiled: {parts}")
    compiled = {key: arms["fused"][key] for key in ("compiled", "compiled_parts")}
    torch._dynamo.reset()
    path = out / f"launches_sd15_s{steps}.json"
    return shapes.write(
        path,
        steps=steps,
        size=size,
        tensors="torch's fake tensors",
        found={"launches": arms["ours"] | compiled | {"no_rung_eager": arms["no rung"]["eager"]}, "arms": arms},
        notes="Nothing was run: a whole frame, uint8 to uint8, with a full bank. eager: ATen operations that compute "
        "or copy, an attention being one; no rung: the same frame with every rung of translator.speed off; compiled: "
        "nodes of Inductor's scheduler after fusion, lowered for a CPU, since no GPU was there; a GPU's fusion "
        "differs a little. ours: translator.speed as it is; fused: with fused_activations, fused_norms, folded_output "
        "and direct_keys, whose operations (a convolution with its ReLU by cuDNN, a group normalisation by our Triton "
        "kernel, a product into the bank by cuBLAS) count as the one launch that each is on CUDA; fused_norms and "
        "direct_keys have to be asked for, and no GPU has run any of them. results.launches.compiled is fused's. "
        "update: operations of the bank's update, every 4th frame, after the picture was handed on.",
        load_before=load_before,
        includes=("preprocess", "encode", "unet", "scheduler", "decode", "postprocess"),
    )
