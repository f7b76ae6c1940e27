"""The wheels as they are built: what lands in a customer's environment, and what an import costs there."""

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE_PACKAGES = sysconfig.get_paths()["purelib"]
SERVER_LIBRARIES = (
    "fastapi",
    "duckdb",
    "pyarrow",
    "polars",
    "scipy",
    "streamlit",
    "uvicorn",
    "pydantic",
    "onnxruntime",
)


def _build(source: Path, target: Path) -> Path:
    command = [sys.executable, "-m", "build", "-q", "--no-isolation", "--wheel", "--outdir", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def sdk_wheel(tmp_path_factory) -> Path:
    return _build(ROOT / "device_sdk", tmp_path_factory.mktemp("sdk"))


@pytest.fixture(scope="module")
def server_wheel(tmp_path_factory) -> Path:
    return _build(ROOT, tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def sdk_alone(sdk_wheel, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("environment")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*command, "--target", str(target), str(sdk_wheel)], check=True, capture_output=True)
    return target


def _run(target: Path, code: str) -> str:
    """Run code with the wheel and its dependencies, but without the editable checkout (-S reads no .pth file)."""
    prelude = f"import sys; sys.path[:0] = [{str(target)!r}, {SITE_PACKAGES!r}]; "
    command = [sys.executable, "-I", "-S", "-c", prelude + code]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=target).stdout


def test_only_device_sdk_lands(sdk_alone):
    assert {path.name for path in sdk_alone.iterdir() if not path.name.endswith(".dist-info")} == {"device_sdk"}


def test_the_sdk_wheel_carries_types_and_licence_and_no_tests(sdk_wheel):
    names = zipfile.ZipFile(sdk_wheel).namelist()
    assert "device_sdk/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "test_" in name]


def test_importing_the_sdk_loads_no_server_library_and_no_opentelemetry(sdk_alone):
    code = "import json, device_sdk; print(json.dumps([device_sdk.__file__, sorted(sys.modules)]))"
    where, modules = json.loads(_run(sdk_alone, code))
    assert where.startswith(str(sdk_alone))
    loaded = {name.split(".")[0] for name in modules}
    assert not loaded & {*SERVER_LIBRARIES, "opentelemetry", "requests"}


def test_the_server_wheel_carries_its_packages_and_data_files_but_not_the_sdk(server_wheel):
    names = zipfile.ZipFile(server_wheel).namelist()
    tops = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert tops == {"collector", "analytics", "alerts", "dashboards", "fleetpulse", "simulator"}
    for needed in (
        "collector/storage/migrations/0001_initial.sql",
        "collector/storage/migrations/0003_settings.sql",
        "simulator/models/digits.onnx",
    ):
        assert needed in names
    assert [name for name in names if name.startswith("alerts/rules/")]
    assert [name for name in names if name.startswith("analytics/slos/")]
