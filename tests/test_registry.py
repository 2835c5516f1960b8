from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
import textwrap

import pytest

from halopy import classifiers, generators
from halopy.classify import Classifier
from halopy.errors import HalopyWarning, MissingExtraError, PluginError, UnknownModelError
from halopy.model import load
from halopy.registry import Registry

GOOD = """
from halopy.classify import Classifier

class Coin(Classifier):
    trainable = False

    def __init__(self, *, bias=0.5):
        self.bias = bias

    def _predict_proba(self, cutouts):
        return [self.bias] * len(cutouts)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution on the path, as an installer would leave it."""
    added = []

    def _install(module, code, entries, name="halopy-thing", version="1.2", group="halopy.classifiers"):
        site = tmp_path / name
        site.mkdir(exist_ok=True)
        if code is not None:
            (site / f"{module}.py").write_text(textwrap.dedent(code))
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        monkeypatch.syspath_prepend(str(site))
        importlib.invalidate_caches()
        added.append(module)

    yield _install
    for module in added:
        sys.modules.pop(module, None)


def test_our_own_models_come_through_the_door():
    assert "matched-filter" in classifiers
    assert issubclass(classifiers["matched-filter"], Classifier)
    assert len(classifiers) == len(list(classifiers)) >= 1
    assert "matched-filter" in repr(classifiers)
    assert "halopy.generators" in repr(generators)


def test_listing_imports_nothing(install):
    install("coin_a", "raise RuntimeError('imported')", {"coin": "coin_a:Coin"})
    assert "coin" in classifiers
    assert "coin" in list(classifiers)
    assert "coin_a" not in sys.modules


def test_a_third_partys_model(install, tmp_path):
    install("coin_b", GOOD, {"coin": "coin_b:Coin"})
    model = classifiers.create("coin", bias=0.25)
    assert model.params == {"bias": 0.25}
    model.save(tmp_path / "coin.safetensors")
    assert load(tmp_path / "coin.safetensors") == model


def test_a_misspelt_name():
    with pytest.raises(UnknownModelError, match="no model 'matched_filtr' in halopy.classifiers; "
                                                "did you mean 'matched-filter'[?] installed: .*matched-filter"):
        classifiers["matched_filtr"]
    with pytest.raises(KeyError, match="no model 7"):
        classifiers[7]
    assert "matched_filtr" not in classifiers


def test_a_misspelt_setting(install):
    install("coin_c", GOOD, {"coin": "coin_c:Coin"})
    with pytest.raises(TypeError, match="unexpected keyword argument 'bia'"):
        classifiers.create("coin", bia=0.5)


@pytest.mark.parametrize(("module", "code", "text"), [
    ("broken_raises", "raise RuntimeError('no GPU')", "cannot be imported: RuntimeError: no GPU"),
    ("broken_exits", "raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
    ("broken_syntax", "def f(:", "cannot be imported: SyntaxError"),
    ("broken_name", "x = 1", "cannot be imported: AttributeError: .*Coin"),
    ("broken_base", "class Coin: pass", "must be a subclass of halopy.classify.base.Classifier, found"),
    ("broken_kind", "Coin = 3", "must be a subclass of halopy.classify.base.Classifier, found 3"),
    ("broken_gone", None, "cannot be imported: ModuleNotFoundError: .*broken_gone"),
])
def test_a_broken_plugin_names_its_distribution_and_harms_nobody(install, module, code, text):
    install(module, code, {"coin": f"{module}:Coin"})
    with pytest.raises(PluginError, match=f"model 'coin' .*from halopy-thing 1[.]2.*{text}"):
        classifiers["coin"]
    assert classifiers.create("matched-filter").params is not None
    with pytest.warns(HalopyWarning, match="from halopy-thing 1[.]2"):
        table = classifiers.info()
    state = dict(zip(table["name"], table["state"], strict=True))
    assert state["matched-filter"] == "ok"
    assert "halopy-thing 1.2" in state["coin"]


def test_a_missing_dependency_is_named(install):
    install("needs_more", "import no_such_package.part", {"coin": "needs_more:Coin"})
    with pytest.raises(MissingExtraError, match="model 'coin' .*from halopy-thing 1[.]2.* needs the module "
                                                "'no_such_package', which is not installed"):
        classifiers["coin"]


def test_a_name_taken_twice(install):
    install("coin_d", GOOD, {"coin": "coin_d:Coin"}, name="halopy-one")
    install("coin_e", GOOD, {"coin": "coin_e:Coin"}, name="halopy-two", version="2.0")
    with pytest.raises(PluginError, match="the name 'coin' in halopy.classifiers is taken more than once: "
                                          "(?=.*halopy-one 1[.]2)(?=.*halopy-two 2[.]0).*uninstall one"):
        classifiers["coin"]
    assert "coin_d" not in sys.modules
    with pytest.warns(HalopyWarning, match="taken more than once"):
        table = classifiers.info()
    assert sorted(table["distribution"][table["name"] == "coin"]) == ["halopy-one", "halopy-two"]


def test_a_plugin_cannot_take_the_name_of_one_of_ours(install):
    install("coin_f", GOOD, {"matched-filter": "coin_f:Coin"})
    with pytest.raises(PluginError, match="'matched-filter' in .* is taken more than once.*halopy-thing"):
        classifiers["matched-filter"]


def test_a_distribution_seen_twice_is_no_clash(install, tmp_path, monkeypatch):
    install("coin_g", GOOD, {"coin": "coin_g:Coin"})
    monkeypatch.setattr(sys, "path", [str(tmp_path / "halopy-thing" / "."), *sys.path])
    assert classifiers["coin"].__name__ == "Coin"


def test_strict_mode_raises_for_plugin_authors(install, monkeypatch):
    install("strict_raises", "raise RuntimeError('no GPU')", {"coin": "strict_raises:Coin"})
    monkeypatch.setenv("HALOPY_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match="RuntimeError: no GPU"):
        classifiers.info()


def test_a_keyboard_interrupt_is_the_users(install):
    install("stopped", "raise KeyboardInterrupt", {"coin": "stopped:Coin"})
    with pytest.raises(KeyboardInterrupt):
        classifiers["coin"]


def test_info():
    table = classifiers.info()
    assert table.colnames == ["name", "distribution", "version", "state"]
    row = table[list(table["name"]).index("matched-filter")]
    assert row["distribution"] == "halopy-radio"
    assert row["version"] == importlib.metadata.version("halopy-radio")
    assert row["state"] == "ok"


def test_a_group_of_nothing():
    # What ``generators`` is as long as none is installed.
    empty = Registry("halopy.no-such-group", base="halopy.classify.base:Classifier")
    try:
        assert list(empty) == []
        assert len(empty.info()) == 0
        with pytest.raises(UnknownModelError, match="no model 'x' in halopy.no-such-group; installed: none"):
            empty["x"]
    finally:
        del Registry._all["halopy.no-such-group"]


def test_pretrained(install):
    install("coin_h", GOOD + """
    @classmethod
    def pretrained(cls):
        return cls(bias=0.75)
""", {"coin": "coin_h:Coin"})
    assert classifiers.pretrained("coin").bias == classifiers.ready("coin").bias == 0.75
    install("coin_i", GOOD, {"plain": "coin_i:Coin"}, name="halopy-plain")
    assert type(classifiers.ready("plain")) is classifiers["plain"]
    with pytest.raises(UnknownModelError, match="model 'plain' in halopy.classifiers ships no weights"):
        classifiers.pretrained("plain")


def test_registries_are_found_by_group():
    assert Registry.of("halopy.classifiers") is classifiers
    with pytest.raises(UnknownModelError, match="no registry 'x'; there are: halopy.classifiers"):
        Registry.of("x")


def test_the_example_distribution_really_installs(repository, tmp_path, monkeypatch):
    pytest.importorskip("setuptools")
    pytest.importorskip("pip")
    source = tmp_path / "source"
    source.mkdir()
    for file in (repository / "tests" / "example_plugin").iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    site = tmp_path / "site"
    run = subprocess.run([sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--no-deps",
                          "--disable-pip-version-check", "--target", str(site), str(source)],
                         capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    try:
        assert "central-peak" in classifiers
        assert "rings" in generators
        assert repr(generators.create("rings", radius=12.0)) == "Rings(radius=12.0)"
        info = classifiers.info()
        assert info["distribution"][list(info["name"]).index("central-peak")] == "halopy-example"
    finally:
        sys.modules.pop("halopy_example", None)
