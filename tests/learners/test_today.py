"""The pre-trained, attentive, margin and transductive methods against closed forms, scikit-learn and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.optimize import minimize
from sklearn.covariance import EmpiricalCovariance
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from mtl_jax import Episode, Model, learners, models
from mtl_jax.learners.feat import attend
from mtl_jax.learners.metaoptnet import dual_shares
from mtl_jax.learners.parts import beside
from mtl_jax.learners.simple_cnaps import mahalanobis
from mtl_jax.learners.tim import information_loss

D, WAYS, SHOTS, QUERIES = 6, 3, 4, 5


def identity_net():
    """x itself as the features, times a matrix that starts as the identity."""
    return Model(lambda key, x: {"a": jnp.eye(x.shape[1], dtype=x.dtype)}, lambda p, x, s=None: (x @ p["a"], None))


def episode(dtype=jnp.float64, spread=0.6, offset=0.0):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(WAYS, D)) + offset
    y, q = (np.repeat(np.arange(WAYS, dtype=np.int32), n) for n in (SHOTS, QUERIES))
    x, z = (jnp.asarray(centres[each] + spread * rng.normal(size=(len(each), D)), dtype) for each in (y, q))
    return Episode(x, jnp.asarray(y), z, jnp.asarray(q), jnp.arange(WAYS, dtype=jnp.int32))


def answer(learner, theta, e):
    return learner.predict(theta, learner.adapt(theta, e.support_x, e.support_y), e.query_x)


def unit(x):
    return np.asarray(x) / np.linalg.norm(x, axis=-1, keepdims=True)


def means(z, y):
    return np.stack([np.asarray(z)[np.asarray(y) == k].mean(0) for k in range(WAYS)])


class TestSimpleShot:
    def test_it_is_the_nearest_mean_of_centred_unit_features(self, key):
        with jax.enable_x64(True):
            e = episode(offset=5.0)
            learner = learners.simpleshot(identity_net(), WAYS)
            theta = learner.init(key, e.support_x)
            centre = np.full(D, 5.0)
            theta["centre"] = jnp.asarray(centre)
            c = means(unit(e.support_x - centre), e.support_y)
            want = -10 * ((unit(e.query_x - centre)[:, None] - c) ** 2).sum(-1)
            np.testing.assert_allclose(answer(learner, theta, e), want, rtol=1e-9)

    def test_the_centre_goes_to_the_mean_feature_and_moves_nothing_else(self, key):
        with jax.enable_x64(True):
            e = episode(offset=5.0)
            learner, plain = (learners.simpleshot(identity_net(), WAYS, centred) for centred in (True, False))
            theta = learner.init(key, e.support_x)
            grads = jax.grad(lambda t: learner.loss(t, e)[0])(theta)
            without = {k: theta[k] for k in ("net", "classes")}
            want = jax.grad(lambda t: plain.loss(t, e)[0])(without)
            jax.tree.map(np.testing.assert_allclose, {k: grads[k] for k in without}, want)
            np.testing.assert_allclose(theta["centre"] - D * grads["centre"], e.query_x.mean(0), rtol=1e-9)


def test_rfs_is_scikit_learns_logistic_regression_of_unit_features(key):
    e = episode(jnp.float32)
    learner = learners.rfs(identity_net(), WAYS)
    got = jax.nn.softmax(answer(learner, learner.init(key, e.support_x), e))
    fitted = LogisticRegression(C=1.0, tol=1e-10, max_iter=10000).fit(unit(e.support_x), e.support_y)
    np.testing.assert_allclose(got, fitted.predict_proba(unit(e.query_x)), atol=1e-4)


def test_meta_baseline_is_a_scaled_cosine_whose_scale_learns(key):
    with jax.enable_x64(True):
        e = episode()
        learner = learners.meta_baseline(identity_net(), 7.0)
        theta = learner.init(key, e.support_x)
        want = 7 * unit(e.query_x) @ unit(means(e.support_x, e.support_y)).T
        np.testing.assert_allclose(answer(learner, theta, e), want, rtol=1e-9)
        check_grads(lambda t: learner.loss(t, e)[0], (theta,), order=1, modes=["rev"], eps=1e-6)


class TestFeat:
    def test_the_order_of_the_set_does_not_count_and_the_unseen_do_not_matter(self, key):
        with jax.enable_x64(True):
            e = episode()
            params = learners.feat(identity_net()).init(key, e.support_x)["attention"]
            z, order = e.support_x, np.random.default_rng(1).permutation(len(e.support_x))
            whole = attend(params, z, jnp.ones(len(z), bool))
            np.testing.assert_allclose(attend(params, z[order], jnp.ones(len(z), bool)), whole[order], rtol=1e-9)
            part = attend(params, z, jnp.arange(len(z)) < 5)
            np.testing.assert_allclose(part[:5], attend(params, z[:5], jnp.ones(5, bool)), rtol=1e-9)

    def test_without_attention_it_is_a_nearest_normalised_mean(self, key):
        with jax.enable_x64(True):
            e = episode()
            learner = learners.feat(identity_net(), temperature=3.0)
            theta = learner.init(key, e.support_x)
            theta["attention"]["out"] = jnp.zeros((D, D))
            c = means(e.support_x, e.support_y)
            c = (c - c.mean(1, keepdims=True)) / np.sqrt(c.var(1, keepdims=True) + 1e-5)
            want = -((np.asarray(e.query_x)[:, None] - c) ** 2).sum(-1) / 3
            np.testing.assert_allclose(answer(learner, theta, e), want, rtol=1e-9)

    def test_the_contrastive_term_adds_and_has_right_derivatives(self, key):
        with jax.enable_x64(True):
            e = episode()
            none, one, two = (learners.feat(identity_net(), 4.0, balance, 2.0) for balance in (0.0, 1.0, 2.0))
            theta = one.init(key, e.support_x)
            a, b, c = (each.loss(theta, e)[0] for each in (none, one, two))
            assert b > a + 0.1
            np.testing.assert_allclose(c - b, b - a, rtol=1e-9)
            check_grads(lambda t: one.loss(t, e)[0], (theta,), order=1, modes=["rev"], eps=1e-6)


class TestMetaOptNet:
    def test_the_machine_is_scikit_learns(self):
        """Of 20 numbers, 12 products have an inverse without the diagonal, which scikit-learn has not."""
        with jax.enable_x64(True):
            rng, y = np.random.default_rng(0), np.repeat(np.arange(WAYS), SHOTS)
            x = rng.normal(size=(WAYS, 20))[y] + rng.normal(size=(len(y), 20))
            one_hot, cost = jnp.eye(WAYS)[y], 0.1
            shares = dual_shares(jnp.asarray(x @ x.T), one_hot, jnp.float64(1 / cost), 500)
            np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-12)
            assert shares.min() >= 0
            want = LinearSVC(C=cost, multi_class="crammer_singer", fit_intercept=False, tol=1e-10, max_iter=10**6)
            np.testing.assert_allclose(cost * (one_hot - shares).T @ x, want.fit(x, y).coef_, atol=1e-5)

    def test_the_dual_is_scipys(self):
        with jax.enable_x64(True):
            e = episode()
            y = np.eye(WAYS)[np.asarray(e.support_y)]
            gram = np.asarray(e.support_x @ e.support_x.T) + np.eye(len(y))

            def value(flat):
                rest = y - flat.reshape(y.shape)
                return 0.5 * np.trace(rest.T @ gram @ rest) + 10 * (y - rest)[y > 0].sum()

            rows = {"type": "eq", "fun": lambda flat: flat.reshape(y.shape).sum(1) - 1}
            start = np.full(y.size, 1 / WAYS)
            found = minimize(value, start, bounds=[(0, 1)] * y.size, constraints=rows, options={"ftol": 1e-13})
            shares = dual_shares(jnp.asarray(gram), jnp.asarray(y), jnp.float64(10), 500)
            assert value(np.asarray(shares).ravel()) <= found.fun + 1e-9
            np.testing.assert_allclose(shares, found.x.reshape(y.shape), atol=1e-4)

    def test_derivatives_of_the_solution_are_finite_differences(self, key):
        with jax.enable_x64(True):
            e = episode()
            learner = learners.metaoptnet(identity_net(), 0.5, solver_steps=2000)
            theta = learner.init(key, e.support_x)
            check_grads(lambda t: learner.loss(t, e)[0], (theta,), order=1, modes=["rev"], eps=1e-6, rtol=1e-4)

            def of_cost(cost):
                return learners.metaoptnet(identity_net(), cost, solver_steps=2000).loss(theta, e)[0]

            check_grads(of_cost, (jnp.float64(0.5),), order=1, modes=["rev"], eps=1e-6, rtol=1e-4)


class TestSimpleCnaps:
    def test_distances_are_those_of_the_matrices_themselves(self, key):
        with jax.enable_x64(True):
            e = episode()
            learner = learners.simple_cnaps(identity_net())
            got = answer(learner, learner.init(key, e.support_x), e)
            x, y, q = (np.asarray(each) for each in (e.support_x, e.support_y, e.query_x))
            share, of_all = SHOTS / (SHOTS + 1), np.cov(x.T)
            for k in range(WAYS):
                covariance = share * np.cov(x[y == k].T) + (1 - share) * of_all + np.eye(D)
                model = EmpiricalCovariance()
                model.location_, model.precision_ = x[y == k].mean(0), np.linalg.inv(covariance)
                np.testing.assert_allclose(got[:, k], -0.5 * model.mahalanobis(q), rtol=1e-9)

    def test_of_one_example_per_class_the_covariance_is_half_that_of_all(self, key):
        with jax.enable_x64(True):
            e = episode()
            one = e._replace(support_x=e.support_x[::SHOTS], support_y=e.support_y[::SHOTS])
            learner = learners.simple_cnaps(identity_net())
            got = answer(learner, learner.init(key, one.support_x), one)
            x, q = np.asarray(one.support_x), np.asarray(one.query_x)
            inverse = np.linalg.inv(0.5 * np.cov(x.T) + np.eye(D))
            far = q[:, None] - x
            np.testing.assert_allclose(got, -0.5 * np.einsum("nkd,de,nke->nk", far, inverse, far), rtol=1e-9)

    def test_large_features_keep_their_digits(self, key):
        x, root = 1e4 * jax.random.normal(key, (5, 8)), jax.random.normal(jax.random.key(1), (3, 8))
        exact = np.linalg.inv(np.asarray(root, np.float64).T @ np.asarray(root, np.float64) + np.eye(8))
        want = np.einsum("nd,de,ne->n", np.asarray(x, np.float64), exact, np.asarray(x, np.float64))
        np.testing.assert_allclose(mahalanobis(x, jnp.zeros(8), root), want, rtol=1e-4)


class TestTsa:
    def test_an_adapter_is_a_1x1_convolution_beside(self, key):
        for stride in (1, 2):
            x, kernel = jax.random.normal(key, (2, 8, 8, 3)), jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
            adapter = jax.random.normal(jax.random.key(2), (3, 4))
            want = models.layers.convolve(x, kernel, stride) + x[:, ::stride, ::stride] @ adapter
            got = models.layers.convolve(x, beside(kernel, adapter), stride)
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)

    def test_it_starts_as_the_nearest_mean_and_fits_the_support_set(self, key):
        with jax.enable_x64(True):
            e = episode(spread=1.0)
            still, moved = (learners.tsa(identity_net(), WAYS, lr, 40) for lr in (1e-30, 1.0))
            theta = still.init(key, e.support_x)
            want = 10 * unit(e.query_x) @ unit(means(e.support_x, e.support_y)).T
            np.testing.assert_allclose(answer(still, theta, e), want, rtol=1e-9)
            own = e._replace(query_x=e.support_x)
            before, after = (jax.nn.log_softmax(answer(one, theta, own)) for one in (still, moved))
            picked = np.arange(len(e.support_y)), np.asarray(e.support_y)
            assert after[picked].mean() > before[picked].mean() + 0.05

    def test_convolutions_get_adapters_and_the_rest_stays(self, key):
        x = jax.random.uniform(key, (6, 16, 16, 1))
        y = jnp.repeat(jnp.arange(3, dtype=jnp.int32), 2)
        learner = learners.tsa(models.conv4(None, 4, downsample="stride"), 7, inner_steps=3)
        theta = learner.init(key, x)
        phi = learner.adapt(theta, x, y)
        moved = phi.params["conv1"]["kernel"] - theta["net"]["conv1"]["kernel"]
        assert moved[1, 1].any()
        assert not moved.at[1, 1].set(0).any()
        jax.tree.map(np.testing.assert_array_equal, phi.params["norm1"], theta["net"]["norm1"])

    def test_past_a_backbones_block_depthwise_convolutions_get_one_number_per_channel(self, key):
        maps = jax.random.uniform(key, (6, 2, 2, 192))
        learner = learners.tsa(models.efficientnet(after=14), 7, inner_steps=1)
        theta = learner.init(key, maps)
        phi = learner.adapt(theta, maps, jnp.repeat(jnp.arange(3, dtype=jnp.int32), 2))
        before, after = theta["net"]["block15"], phi.params["block15"]
        for layer in ("expand", "depthwise", "project"):
            middle = after[layer]["kernel"].shape[0] // 2
            moved = after[layer]["kernel"] - before[layer]["kernel"]
            assert moved[middle, middle].any()
            assert not moved.at[middle, middle].set(0).any()
            np.testing.assert_array_equal(after[layer]["shift"], before[layer]["shift"])


class TestTransductive:
    def test_tims_loss_is_what_it_says(self):
        with jax.enable_x64(True):
            rng = np.random.default_rng(0)
            a, b = rng.normal(size=(7, 3)), rng.normal(size=(3, 3))
            p, s = (np.exp(v) / np.exp(v).sum(1, keepdims=True) for v in (a, b))
            y = np.array([2, 0, 1], np.int32)
            entropy = -(p * np.log(p)).sum(1).mean()
            want = -0.1 * np.log(s[np.arange(3), y]).mean() + p.mean(0) @ np.log(p.mean(0)) + 0.3 * entropy
            got = information_loss(jnp.asarray(a), jnp.asarray(b), jnp.asarray(y), (0.1, 1.0, 0.3))
            np.testing.assert_allclose(got, want, rtol=1e-9)

    def test_tim_starts_at_the_means_and_lowers_its_loss(self, key):
        with jax.enable_x64(True):
            e = episode(spread=1.0)
            still, moved = (learners.tim(identity_net(), WAYS, lr, 100) for lr in (1e-30, 1e-2))
            theta = still.init(key, e.support_x)
            z, c = unit(e.query_x), means(unit(e.support_x), e.support_y)
            np.testing.assert_allclose(answer(still, theta, e), -7.5 * ((z[:, None] - c) ** 2).sum(-1), rtol=1e-9)
            weights, own = (0.0, 1.0, 0.1), jnp.zeros((1, WAYS))
            y = jnp.zeros(1, jnp.int32)
            before, after = (information_loss(answer(each, theta, e), own, y, weights) for each in (still, moved))
            assert after < before - 0.01

    def test_bdcspn_is_its_two_steps_in_numpy(self, key):
        with jax.enable_x64(True):
            e, pseudo = episode(spread=1.0), 3
            learner = learners.bdcspn(identity_net(), WAYS, pseudo=pseudo)
            s, q = unit(e.support_x), unit(e.query_x)
            q = q + s.mean(0) - q.mean(0)
            c = means(s, e.support_y)
            cos = unit(q) @ unit(c).T
            rows = []
            for k in range(WAYS):
                mine = [i for i in np.argsort(-cos[:, k]) if cos[i].argmax() == k][:pseudo]
                members = np.concatenate((s[np.asarray(e.support_y) == k], q[mine]))
                w = np.exp(10 * unit(members) @ unit(c[k]))
                rows.append(w @ members / w.sum())
            want = 10 * unit(q) @ unit(np.stack(rows)).T
            np.testing.assert_allclose(answer(learner, learner.init(key, e.support_x), e), want, rtol=1e-9)

    @pytest.mark.parametrize("name", ["tim", "bdcspn"])
    def test_a_query_alone_gets_another_answer(self, key, name):
        e = episode(jnp.float32)
        learner = getattr(learners, name)(identity_net(), WAYS)
        theta = learner.init(key, e.support_x)
        together = answer(learner, theta, e)[:1]
        alone = answer(learner, theta, e._replace(query_x=e.query_x[:1]))
        assert np.abs(together - alone).max() > 1e-2
