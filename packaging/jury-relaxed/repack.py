"""Build backend: fetch the published jury wheel, relax five of its requirements, zip it again. Nothing else changes."""

import base64
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

RELEASE, VERSION = "2.3.1", "2.3.1+relaxed"
SHA256 = "3cc235070a30342ffdc3a44631aaf2eec390b5eb6f9757d0c7ab28ca115cfe52"
# jury 2.3.1 asks for click==8.0.4, datasets==2.9.0, evaluate==0.2.2, nltk==3.7 and rouge-score==0.0.4, which no
# current transformers can share. What the project uses of jury runs unchanged on the newer ones
# (tests/test_metrics.py).
RELAXED = {"click": "", "datasets": ">=2.9", "evaluate": ">=0.4,<0.5", "nltk": ">=3.9", "rouge-score": ">=0.0.4"}


def published_wheel(directory):
    """The path of the wheel from the package index, checked against its known hash."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--only-binary", ":all:", "--dest", directory, f"jury=={RELEASE}"], check=True)
    (wheel,) = Path(directory).glob("*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"jury {RELEASE}: the wheel's hash is {found}, not {SHA256}; refusing to install it")
    return wheel


def relax(metadata):
    """jury's METADATA text with the version marked and the pins of RELAXED replaced."""

    def requirement(match):
        name = re.match(r"[\w.-]+", match[1])[0]
        keep = name not in RELAXED or "extra ==" in match[0]
        return match[0] if keep else f"Requires-Dist: {name}{RELAXED[name]}"

    metadata = re.sub(r"^Requires-Dist: (.*)$", requirement, metadata, flags=re.M)
    return re.sub(r"^Version: .*$", f"Version: {VERSION}", metadata, count=1, flags=re.M)


def record_line(name, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """The name of the repacked wheel (PEP 517)."""
    old, new = f"jury-{RELEASE}.dist-info/", f"jury-{VERSION}.dist-info/"
    name = f"jury-{VERSION}-py3-none-any.whl"
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(published_wheel(scratch)) as source:
        files = {i.filename: source.read(i) for i in source.infolist() if not i.is_dir()}
    files.pop(old + "RECORD")
    files[old + "METADATA"] = relax(files[old + "METADATA"].decode()).encode()
    files = {path.replace(old, new): data for path, data in files.items()}
    record = [record_line(path, data) for path, data in files.items()] + [f"{new}RECORD,,"]
    files[f"{new}RECORD"] = ("\n".join(record) + "\n").encode()
    with zipfile.ZipFile(Path(wheel_directory, name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in files.items():
            wheel.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return name


def get_requires_for_build_wheel(config_settings=None):
    return []


def build_sdist(sdist_directory, config_settings=None):
    raise SystemExit("jury-relaxed is only ever built as a wheel")
