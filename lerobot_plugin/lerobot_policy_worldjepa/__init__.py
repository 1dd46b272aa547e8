"""worldjepa in LeRobot: ``--policy.type=worldjepa_act``, ``worldjepa_mpc`` or ``worldjepa_encoder``.

LeRobot imports this package when it starts; the configurations register the types, models are imported when built.
"""

from lerobot_policy_worldjepa.configuration_act import WorldjepaActConfig
from lerobot_policy_worldjepa.configuration_encoder import WorldjepaEncoderConfig
from lerobot_policy_worldjepa.configuration_mpc import WorldjepaMpcConfig

__all__ = ["WorldjepaActConfig", "WorldjepaEncoderConfig", "WorldjepaMpcConfig"]
