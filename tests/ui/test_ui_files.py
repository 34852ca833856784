"""The interface's files keep their promises without a browser: what is vendored is what was published, colours have
their contrast, and nothing in a component needs a looser content-security policy."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from noria.http.static import Site

UI = Path(__file__).parents[2] / "noria" / "ui"
OURS = sorted(p for p in UI.rglob("*.js") if "vendor" not in p.parts)
STYLES = sorted((UI / "styles").glob("*.css"))


@pytest.mark.parametrize("folder", [UI / "vendor", Path(__file__).parent / "vendor"], ids=["shipped", "tests only"])
def test_vendored_files_are_the_ones_we_looked_at(folder: Path) -> None:
    packages = json.loads((folder / "VENDOR.json").read_text())["packages"]
    for package in packages:
        digest = hashlib.sha256((folder / package["file"]).read_bytes()).hexdigest()
        assert digest == package["sha256"], package["file"]
        assert (folder / package["licence_file"]).stat().st_size > 500, package["name"]
    known = {p["file"] for p in packages} | {p["licence_file"] for p in packages} | {"VENDOR.json"}
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == known


def test_every_bare_import_is_in_the_import_map() -> None:
    known = import_map()
    for path in OURS:
        for name in imports(path):
            if name.startswith("."):
                assert (path.parent / name).is_file(), f"{path.name} imports {name}"
            else:
                assert name in known, f"{path.name} imports {name}"


def test_no_component_needs_a_looser_policy_or_its_own_colours() -> None:
    for path in OURS:
        text = path.read_text()
        assert "innerHTML" not in text, path
        assert not re.search(r"""style=["']""", text), f"{path}: a style attribute in markup"
        assert not re.search(r"#[0-9a-fA-F]{6}\b", text), f"{path}: a colour that is not a token"
        assert path.name == "theme.js" or text.startswith("// @ts-check"), path
    for path in STYLES:
        if path.name != "tokens.css":
            assert not re.search(r"#[0-9a-fA-F]{3,8}\b(?![^{]*\{)", path.read_text()), (
                f"{path}: a colour that is not a token"
            )


def test_every_icon_that_is_named_is_in_the_sprite() -> None:
    drawn = set(re.findall(r'<symbol id="([^"]+)"', (UI / "vendor" / "lucide" / "icons.svg").read_text()))
    for path in OURS:
        for name in re.findall(r"""(?:<\$\{Icon\} name="|icon="|icon: ')([a-z0-9-]+)""", path.read_text()):
            assert name in drawn, f"{path.name} names the icon {name}"


def test_first_load_is_within_its_budget() -> None:
    """Everything app.js imports statically, gzipped: at most 100 kB; what a page adds is measured in the browser."""
    bare = import_map()
    seen: set[Path] = set()
    queue = [UI / "app.js"]
    while queue:
        path = queue.pop()
        if path not in seen:
            seen.add(path)
            queue += [bare.get(name) or (path.parent / name).resolve() for name in imports(path, lazy=False)]
    size = sum(len(gzip.compress(p.read_bytes(), 9)) for p in seen)
    assert len(seen) > 20
    assert size < 100_000, f"first load is {size} bytes gzipped in {len(seen)} modules"


def test_the_server_knows_every_page_and_says_what_it_needs_first() -> None:
    site = Site()
    routes = re.findall(r"pattern: '([^']+)'", (UI / "app.js").read_text())
    assert [page.pattern for page in site.pages] == routes and len(routes) > 30
    assert all((UI / page.module).is_file() for page in site.pages)
    page = site.index("/runs", "experiment=a b&sel=none&filter=metrics.x < 1 and tags.\u00fc = '~*'").decode()
    assert f'<link rel="modulepreload" href="{site.base}/components/runs-table.js">' in page
    assert page.count('rel="stylesheet"') == 1 and "<!--" not in page.split("</head>")[0].split("<head>")[1]
    assert site.first("/models/a%2Fb%20c/", "") == [
        "/api/v1/me",
        "/api/v1/models/a%2Fb%20c",
        "/api/v1/models/a%2Fb%20c/timeline",
    ]
    assert (
        site.first("/runs", "filter=a'%22&experiment=1")[-1] == "/api/v1/runs/columns?experiment=1&filter=a%27%22&limit=100"
    )
    assert '"><script' not in site.index("/runs", 'experiment="><script>').decode()
    assert site.first("/nowhere/at/all", "") == ["/api/v1/me"]


def test_the_styles_are_one_file_in_their_order() -> None:
    text = Site().files["styles/all.css"].content.decode()
    assert "@import" not in text and text.index("--canvas") < text.index(".runs-table") < text.index(".gantt")
    assert ".u-wrap" in text, "uPlot's own"
    assert all(f'url("../vendor/{font}/' in text for font in ("inter", "jetbrains-mono"))


def import_map() -> dict[str, Path]:
    packages = json.loads((UI / "vendor" / "VENDOR.json").read_text())["packages"]
    return {p["import"]: UI / "vendor" / p["file"] for p in packages if "import" in p}


def imports(path: Path, *, lazy: bool = True) -> list[str]:
    """Names a module imports; minified files put no space after `from`. `lazy` adds those read when first needed."""
    text = path.read_text()
    found = re.findall(r"""^import\b[^;'"]*?from\s*['"]([^'"]+)['"]""", text, re.M)
    found += re.findall(r"""\b(?:import|export)\s*\{[^}]*\}\s*from\s*['"]([^'"]+)['"]""", text)
    if lazy:
        found += re.findall(r"""\bimport\(['"]([^'"]+)['"]\)""", text)
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_its_contrast_on_every_ground(theme: str) -> None:
    tokens = read_tokens(theme)
    for ground in ("canvas", "surface", "sunken"):
        for ink in ("ink", "ink-2", "ink-3", "accent", "ok", "warn", "bad"):
            assert contrast(tokens[ink], tokens[ground]) >= 4.5, f"{ink} on {ground}, {theme}"
        assert contrast(tokens["line-strong"], tokens[ground]) >= 3, f"line-strong on {ground}, {theme}"


def read_tokens(theme: str) -> dict[str, tuple[float, float, float]]:
    found: dict[str, tuple[float, float, float]] = {}
    pattern = r"--([a-z0-9-]+): light-dark\(oklch\(([\d. ]+)\), oklch\(([\d. ]+)\)\)"
    for name, light, dark in re.findall(pattern, (UI / "styles" / "tokens.css").read_text()):
        lightness, chroma, hue = (float(v) for v in (light if theme == "light" else dark).split())
        found[name] = (lightness, chroma, hue)
    return found


def contrast(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(oklch: tuple[float, float, float]) -> float:
    """Relative luminance of an OKLCH colour, clipped to sRGB.   Source: Ottosson, A perceptual color space (2020)."""
    lightness, chroma, hue = oklch
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = 4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short
    red, green, blue = (min(1.0, max(0.0, v)) for v in (red, green, blue))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.skipif(shutil.which("node") is None, reason="the pure parts are tested by Node, which is not here")
def test_the_pure_parts_pass_their_own_tests() -> None:
    done = subprocess.run(
        ["node", "--import", "./resolve.js", "--test"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_there_is_a_picture_of_every_page() -> None:
    routes = re.findall(r"\{ pattern: '([^']+)', name: '([^']+)'", (UI / "app.js").read_text())
    script = (UI.parents[1] / "scripts" / "screenshots.py").read_text()
    shown = [re.sub(r"\{[^}]*\}", "x", text).partition("?")[0] for text in re.findall(r'f?"(/[^"]*)"', script)]
    shown += [f"{at}/x" for at in re.findall(r'version = [^\n]*"(/models/\w+)/\d', script)]
    names = {name for pattern, name in routes if any(re.fullmatch(re.sub(r":\w+", "[^/]+", pattern), at) for at in shown)}
    missing = {name for _, name in routes} - names - {"go"}  # which only leads on
    assert not missing, f"scripts/screenshots.py takes no picture of {sorted(missing)}"
