import pytest


@pytest.fixture(scope="session")
def opengl():
    """Skips where MuJoCo cannot draw, and says what to install."""
    from envs.rendering import pick_backend

    try:
        pick_backend()
    except RuntimeError as error:
        pytest.skip(str(error))
