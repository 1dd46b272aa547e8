"""Pictures of MuJoCo simulations without a display.

MuJoCo draws through EGL, OSMesa or GLFW, whichever ``MUJOCO_GL`` names. Unset, the first of EGL and OSMesa that draws
a picture in a child process (a broken driver may kill it, or hang) is taken and written into ``MUJOCO_GL``, where this
process and those it starts find it. Nothing of this happens before the first picture is asked for.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import subprocess
import sys
import weakref
from collections.abc import Callable

import numpy as np

BACKENDS = ("egl", "osmesa")
APT_LINE = "apt install libegl1 libopengl0 libgl1-mesa-dri"
TRIAL_SECONDS = 60
# The last line of a trial that worked.
_TRIAL = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='.1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 8, 8) as renderer:
    renderer.update_scene(data)
    print("drawn", renderer.render().shape)
"""


@functools.cache
def pick_backend() -> str:
    """The value of ``MUJOCO_GL`` that draws here, set in this process's environment.

    Raises:
        RuntimeError: no way of drawing works; the message says how to install one.
    """
    # Mesa's software renderer starts a thread per core for pictures that take half a millisecond.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    if chosen in ("disable", "disabled", "off", "false", "0"):
        raise RuntimeError(f"pictures were asked for, but MUJOCO_GL={chosen} switches drawing off; unset it")
    if chosen:
        return chosen
    failures = {}
    for backend in BACKENDS:
        failures[backend] = _failure(backend)
        if failures[backend] is None:
            os.environ["MUJOCO_GL"] = backend
            return backend
    tried = "; ".join(f"MUJOCO_GL={backend}: {failure}" for backend, failure in failures.items())
    raise RuntimeError(
        f"MuJoCo cannot draw pictures on this machine ({tried}). Install what it needs and try again:\n"
        f"  {APT_LINE}\n"
        "or, slower, `apt install libosmesa6`. Without pictures (pixels=false) no OpenGL is needed"
    )


def _failure(backend: str) -> str | None:
    """Why ``backend`` draws nothing here; None where it draws."""
    environment = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _TRIAL], env=environment, capture_output=True, text=True, timeout=TRIAL_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"nothing drawn within {TRIAL_SECONDS} s"
    if trial.returncode == 0 and "drawn" in trial.stdout:
        return None
    lines = [line for line in trial.stderr.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"died with exit code {trial.returncode}"


class Renderer:
    """Draws the simulations of one model in one size, 20 to 35 times faster than MuJoCo's default settings.

    Shadows, reflections and multisampling take most of a software renderer's time and tell a model little;
    ``pretty`` puts them back for videos.

    Args:
        model: mujoco.MjModel. Textures and meshes are taken from it once.
        height, width: of the pictures, px.
        pretty: shadows, reflections, smooth edges.
        two_sided: faces are drawn from behind too, for meshes that are open or turned inside out.

    Raises:
        RuntimeError: see :func:`pick_backend`.
    """

    def __init__(self, model, height: int, width: int, pretty: bool = False, two_sided: bool = False):
        backend = pick_backend()
        import mujoco

        self.height, self.width, self.pretty = height, width, pretty
        self._context = _context_class(backend)(width, height)
        self._context.make_current()
        self._is_current = _current_test(backend, self._context)
        # What the context is made of is read from the model, which goes on to serve others.
        quality, screen = model.vis.quality, model.vis.global_
        before = quality.offsamples, screen.offwidth, screen.offheight
        if not pretty:
            quality.offsamples = 0
        screen.offwidth, screen.offheight = width, height
        try:
            self._mujoco_context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        finally:
            quality.offsamples, screen.offwidth, screen.offheight = before
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._mujoco_context)
        self._scene = mujoco.MjvScene(model, maxgeom=max(1000, 4 * model.ngeom + 4 * model.nsite + 200))
        self._option, self._viewport = mujoco.MjvOption(), mujoco.MjrRect(0, 0, width, height)
        if not pretty:
            for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
                self._scene.flags[flag] = 0
        if two_sided:
            self._scene.flags[mujoco.mjtRndFlag.mjRND_CULL_FACE] = 0
        self._picture = np.empty((height, width, 3), np.uint8)
        # Before EGL's own goodbye, which was registered when the context was made; otherwise it complains.
        free = weakref.finalize(self, _free, self._mujoco_context, self._context)
        free.atexit = False
        atexit.register(free)

    def draw(self, model, data, camera) -> np.ndarray:
        """uint8 (height, width, 3) of ``data`` (after ``mj_forward``) as ``camera`` (mujoco.MjvCamera) sees it."""
        self._update(model, data, camera)
        self._render(None)
        return self._picture[::-1].copy()  # OpenGL's first row is the lowest

    def draw_depth(self, model, data, camera):
        """What :meth:`draw` shows, as geometry: depth, items, scene.

        depth: float64 (height, width), m along the camera's axis; inf where nothing is but the sky.
        items: int64 (height, width), which of ``scene.geoms`` is seen; -1 for the sky. What is more transparent than
            opaque is looked through.
        scene: mujoco.MjvScene, valid until the next drawing.

        Raises:
            ValueError: the picture has smooth edges (``pretty``), which mix what is seen, or no perspective.
        """
        import mujoco

        if self.pretty:
            raise ValueError("depth needs a renderer with pretty=False, got a pretty one")
        self._update(model, data, camera)
        scene, number_of = self._scene, {}
        view = mujoco.mjv_averageCamera(*scene.camera)
        if view.orthographic:
            raise ValueError("depth needs a camera with perspective, got an orthographic one; choose another camera")
        for number, geom in enumerate(scene.geoms[: scene.ngeom]):
            if geom.rgba[3] < 0.5:
                geom.segid = -1
            number_of[geom.segid] = number
        number_of[-1] = -1
        flags = [mujoco.mjtRndFlag.mjRND_SEGMENT.value, mujoco.mjtRndFlag.mjRND_IDCOLOR.value]
        scene.flags[flags] = 1
        buffer = np.empty((self.height, self.width), np.float32)
        self._mujoco_context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR.value  # keeps float32's precision
        self._render(buffer)
        scene.flags[flags] = 0
        near, far = 1 / view.frustum_near, 1 / view.frustum_far
        depth = 1 / (far + (near - far) * buffer[::-1].astype(np.float64))
        shown = self._picture[::-1].astype(np.int64) @ (1, 1 << 8, 1 << 16) - 1
        known, where = np.unique(shown, return_inverse=True)
        items = np.array([number_of[number] for number in known.tolist()])[where].reshape(shown.shape)
        depth[items < 0] = np.inf
        return depth, items, scene

    def _update(self, model, data, camera) -> None:
        import mujoco

        every = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(model, data, self._option, None, camera, every, self._scene)

    def _render(self, depth: np.ndarray | None) -> None:
        import mujoco

        if not self._is_current():
            self._context.make_current()
        mujoco.mjr_render(self._viewport, self._scene, self._mujoco_context)
        mujoco.mjr_readPixels(self._picture, depth, self._viewport, self._mujoco_context)


def _free(mujoco_context, context) -> None:
    context.make_current()  # what MuJoCo's frees has numbers that another context's may have too
    mujoco_context.free()
    context.free()


def make_camera(model, name: str | None):
    """A mujoco.MjvCamera: the model's camera called ``name``, or its free view where ``name`` is None.

    Raises:
        ValueError: the model has no such camera.
    """
    import mujoco

    camera = mujoco.MjvCamera()
    if name is None:
        mujoco.mjv_defaultFreeCamera(model, camera)
        return camera
    number = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
    if number < 0:
        names = [model.camera(i).name for i in range(model.ncam)]
        raise ValueError(f"no camera is called {name!r}; this model has {', '.join(names) or 'none'}")
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, number
    return camera


def _current_test(backend: str, context) -> Callable[[], bool]:
    """Whether OpenGL draws into ``context``: asking takes a microsecond, switching up to seventy, even to itself."""
    inner = getattr(context, "_context", None)  # mujoco's name for EGL's own
    if backend != "egl" or not hasattr(inner, "address"):
        return lambda: False
    from mujoco.egl import EGL

    def test() -> bool:
        current = EGL.eglGetCurrentContext()
        return bool(current) and current.address == inner.address

    return test


def _context_class(backend: str):
    try:
        return importlib.import_module(f"mujoco.{backend}").GLContext
    except (ImportError, AttributeError) as error:
        raise RuntimeError(
            f"MUJOCO_GL={backend} does not work here ({error}); unset it to let one be chosen, or: {APT_LINE}"
        ) from None
