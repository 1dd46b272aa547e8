"""The stage that objects are shown on: a floor, a wall, a light and a camera, and one model for all objects."""

from __future__ import annotations

import colorsys
import functools

import mujoco
import numpy as np

from envs.object_shapes import NUM_CLASSES, NUM_PARTS, OBJECT_RADIUS, TONES, find_meshes, make_object, mesh_extent
from envs.rendering import Renderer, make_camera

OBJECT_SEED = 2302  # of the proportions; another one makes other objects and other pictures
HEIGHT = 0.64  # m, of an object's middle: none cuts the floor, however it is turned
FIRST_SLOT = 2  # geoms 0 and 1 are the floor and the wall; the slots follow, and then the meshes
# MuJoCo's own background, a skybox, would take as long to draw as all the rest; boxes are drawn faster than planes.
_SCENE = """
<mujoco>
  <statistic extent="1.2" center="0 0 .5"/>
  <visual>
    <headlight ambient=".3 .3 .3" diffuse=".15 .15 .15" specular="0 0 0"/>
    <map znear=".1" zfar="20" shadowclip="1.5"/>
    <quality shadowsize="2048" numslices="20" numstacks="12"/>
  </visual>
  <default>
    <geom contype="0" conaffinity="0"/>
    <material specular="0" shininess="0"/>
  </default>
  <asset>
    <material name="floor"/>
    <material name="wall" rgba=".62 .62 .62 1"/>
    <material name="object" specular=".2" shininess=".3"/>
    {assets}
  </asset>
  <worldbody>
    <light name="lamp" type="directional" pos="1 -1.5 3" dir="-.5 .45 -.9" castshadow="true"/>
    <camera name="front" pos="2.55 0 1.5" xyaxes="0 1 0 -.325 0 .946" fovy="30"/>
    <geom type="box" size="3 2 .05" pos="-1 0 -.05" material="floor"/>
    <geom type="box" size=".05 2 1" pos="-3.05 0 1" material="wall"/>
    <body name="object" mocap="true" pos="0 0 {height}">
      {slots}
      {meshes}
    </body>
  </worldbody>
</mujoco>
"""
_SLOT = '<geom type="sphere" size=".1" material="object" rgba="1 1 1 0"/>'
# OBJ files have y up and z to the front.
_MESH = '<geom type="mesh" mesh="mesh{n}" quat="1 1 1 1" material="object" rgba="1 1 1 0"/>'
# Open surfaces have no volume to weigh.
_ASSET = '<mesh name="mesh{n}" file="mesh{n}.obj" scale="{s} {s} {s}" inertia="shell"/>'


class Stage:
    """One MjModel for all objects: six slots for parts, which are rewritten for every picture, and every mesh.

    Args:
        meshes: folder of OBJ files or None.
    """

    def __init__(self, meshes: str | None):
        paths = [] if meshes is None else find_meshes(meshes)
        scales = [OBJECT_RADIUS / mesh_extent(path)[1] for path in paths]
        text = _SCENE.format(
            assets="".join(_ASSET.format(n=n, s=scale) for n, scale in enumerate(scales)),
            height=HEIGHT,
            slots=NUM_PARTS * _SLOT,
            meshes="".join(_MESH.format(n=n) for n in range(len(paths))),
        )
        try:
            files = {f"mesh{n}.obj": path.read_bytes() for n, path in enumerate(paths)}
            self.model = mujoco.MjModel.from_xml_string(text, files)
        except ValueError as error:
            raise ValueError(f"MuJoCo cannot take the meshes in {meshes} ({error})") from None
        self.num_classes = NUM_CLASSES + len(paths)
        self.model.geom_sameframe[FIRST_SLOT:] = 0  # geoms are moved after compiling
        for geom in range(FIRST_SLOT + NUM_PARTS, self.model.ngeom):
            self._centre(geom)
        self._floor = self.model.material("floor").id
        self._data = mujoco.MjData(self.model)
        self._camera = make_camera(self.model, "front")
        self._shown: int | None = None

    def draw(self, state: np.ndarray, renderer: Renderer) -> np.ndarray:
        """uint8 (height, width, 3) of a valid state (8,)."""
        number, quat, (floor_hue, light_hue) = int(state[0]), state[2:6], state[6:].tolist()
        if number != self._shown:
            self._show(number)
            self._shown = number
        self.model.mat_rgba[self._floor, :3] = colorsys.hsv_to_rgb(floor_hue, 0.6, 0.75)
        self.model.light_diffuse[0] = colorsys.hsv_to_rgb(light_hue, 0.45, 0.8)
        self._data.mocap_quat[0] = quat
        mujoco.mj_kinematics(self.model, self._data)
        mujoco.mj_camlight(self.model, self._data)
        return renderer.draw(self.model, self._data, self._camera)

    def _show(self, number: int) -> None:
        model = self.model
        model.geom_rgba[FIRST_SLOT:, 3] = 0  # what is not needed is not seen
        label, rng = number % self.num_classes, np.random.default_rng([OBJECT_SEED, number])
        if label >= NUM_CLASSES:
            tone = TONES[rng.integers(2)]  # a mesh all dark would hide its folds
            model.geom_rgba[FIRST_SLOT + NUM_PARTS + label - NUM_CLASSES] = (tone, tone, tone, 1)
            return
        for geom, part in enumerate(make_object(label, rng), start=FIRST_SLOT):
            model.geom_type[geom], model.geom_size[geom] = part.type, part.size
            model.geom_pos[geom], model.geom_quat[geom] = part.pos, part.quat
            model.geom_rgba[geom] = (part.tone, part.tone, part.tone, 1)

    def _centre(self, geom: int) -> None:
        """Moves the middle of the box around a mesh's vertices to the object's middle."""
        model, mesh = self.model, self.model.geom_dataid[geom]
        start = model.mesh_vertadr[mesh]
        matrix = np.empty(9)
        mujoco.mju_quat2Mat(matrix, model.geom_quat[geom])
        vertices = model.mesh_vert[start : start + model.mesh_vertnum[mesh]] @ matrix.reshape(3, 3).T
        model.geom_pos[geom] = -(vertices.min(0) + vertices.max(0)) / 2


@functools.lru_cache(maxsize=4)
def get_stage(meshes: str | None) -> Stage:
    """One per process: what is shown is written into it for every picture."""
    return Stage(meshes)


@functools.lru_cache(maxsize=16)
def get_renderer(meshes: str | None, size: int, pretty: bool) -> Renderer:
    """One per process, not one per environment: an OpenGL context is slow to make and to switch to."""
    # Many meshes have open surfaces, or flat ones, which would vanish from behind.
    return Renderer(get_stage(meshes).model, size, size, pretty, two_sided=meshes is not None)
