import pytest


@pytest.fixture(scope="session")
def opengl():
    """Skips where MuJoCo cannot draw, and says what to install."""
    from envs.rendering import pick_backend

    try:
        pick_backend()
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def refused_states():
    """A check that an environment takes none of the states ``bad``, (state, words of the message) each."""

    def check(env, bad):
        for state, words in bad:
            for option in ("state", "goal_state"):
                with pytest.raises(ValueError, match=words):
                    env.reset(options={option: state})
            with pytest.raises(ValueError, match=words):
                env.observe_state(state)

    return check
