import numpy as np
import pytest

from worldjepa.evaluation import probes

D, K = 13, 3


def two_sets(rng, n=700):
    return rng.normal(size=(n, D)), rng.normal(size=(n // 2, D))


def test_linear_probe_recovers_an_affine_map_with_any_scale_and_a_dead_latent():
    rng = np.random.default_rng(0)
    train, test = two_sets(rng)
    for latent in (train, test):
        latent *= np.logspace(-2, 2, D)
        latent[:, 4] = 5.0
    weight, bias = rng.normal(size=(D, K)), rng.normal(size=K) * 100
    fitted = probes.fit_linear(train, train @ weight + bias, penalty=0.0)
    np.testing.assert_allclose(fitted.predict(test), test @ weight + bias, rtol=1e-6)


def test_linear_probe_minimises_the_stated_ridge_loss():
    rng = np.random.default_rng(1)
    latent, _ = two_sets(rng, n=101)
    target = rng.normal(size=(101, 1))
    penalty = 0.3
    fitted = probes.fit_linear(latent, target, penalty=penalty)

    def loss(weight):
        scaled = (latent - latent.mean(0)) / latent.std(0)
        return ((scaled @ weight - (target - target.mean())) ** 2).mean() + penalty * (weight**2).sum()

    best = fitted.weight * latent.std(0)[:, None]
    for _ in range(20):
        assert loss(best) < loss(best + 1e-3 * rng.normal(size=best.shape))


def test_noise_is_not_read_and_a_nonlinear_target_only_by_the_mlp():
    rng = np.random.default_rng(2)
    train, test = two_sets(rng, n=1000)

    def targets(latent):
        return {
            "known": latent[:, :2] * 30 + 7,
            "noise": rng.normal(size=(len(latent), 2)),
            "product": latent[:, :1] * latent[:, 1:2],
        }

    scores = probes.probe(train, targets(train), test, targets(test))
    assert scores["linear/known/r2"] > 0.999
    assert scores["linear/known/rms"] < 0.1
    assert scores["mlp/known/r2"] > 0.95
    assert abs(scores["linear/noise/r2"]) < 0.1
    assert scores["mlp/noise/r2"] < 0.1
    assert scores["linear/product/r2"] < 0.1
    assert scores["mlp/product/r2"] > 0.6


def test_the_same_seed_gives_the_same_mlp():
    rng = np.random.default_rng(3)
    train, test = two_sets(rng, n=200)
    first, again, other = (
        probes.fit_mlp(train, train[:, :1] ** 2, seed=seed, hidden=16, epochs=5).predict(test) for seed in (0, 0, 1)
    )
    assert first.shape == (100, 1)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_r2_formula_per_number():
    target = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
    prediction = np.array([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])
    np.testing.assert_allclose(probes.r2(prediction, target), [1 - 2 / 8, 1.0])
    np.testing.assert_allclose(probes.r2(prediction + 1, target)[1], 0.0)
    mean_only = np.broadcast_to(target.mean(0), target.shape)
    np.testing.assert_allclose(probes.r2(mean_only, target)[0], 0.0)


def test_units():
    assert probes.rms_distance(np.array([[3.0, 4.0], [0.0, 0.0]]), np.zeros((2, 2))) == pytest.approx(np.sqrt(12.5))
    truth, read = np.radians([179.0, -179.0, 10.0]), np.radians([-179.0, 179.0, 40.0])

    def circle(angle, length):
        return length * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    # across the cut at 180 degrees, and whatever the length of the vector that was read
    assert probes.median_degrees(circle(read, 0.3), circle(truth, 1.0)) == pytest.approx(2.0)
    assert "median_degrees" in probes.score("block_angle", circle(read, 1), circle(truth, 1))
    assert "rms" in probes.score("block_center", circle(read, 1), circle(truth, 1))


def test_mismatched_inputs_are_refused():
    latent = np.zeros((7, D))
    with pytest.raises(ValueError, match="one N"):
        probes.fit_linear(latent, np.zeros((5, 2)))
    with pytest.raises(ValueError, match="flatten time"):
        probes.fit_mlp(np.zeros((7, 3, D)), np.zeros((7, 2)))
    with pytest.raises(ValueError, match="same names"):
        probes.probe(latent, {"a": np.zeros((7, 1))}, latent, {"b": np.zeros((7, 1))})
