"""The HTML report: what is in the file, and what a browser makes of it."""

import html
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

VOID = {"meta", "br", "img"}
WIDTHS = (360, 1280)  # of a phone and of a desk, in CSS pixels

# Around the report: frames of both widths, and what is to be known of them as JSON in the title.
PROBE = """<!DOCTYPE html><title>waiting</title>{frames}
<script>
function colours(image) {{
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  if (!canvas.width) return 0;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return new Set(new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size;
}}
function measured(frame) {{
  const page = frame.contentDocument.documentElement;
  const images = [...frame.contentDocument.images];
  return {{
    width: frame.contentWindow.innerWidth,
    overflow: page.scrollWidth - page.clientWidth,
    colours: images.map(colours),
    wide: images.filter(image => image.getBoundingClientRect().right > page.clientWidth).length,
  }};
}}
onload = () => document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(measured));
</script>"""


class Page(HTMLParser):
    """What there is in a page, and whether every element is closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def out(sample, comparison, tmp_path_factory):
    """The folder of the made-up comparison's report."""
    folder = tmp_path_factory.mktemp("report")
    paths = sample("report").write_report(comparison, folder)
    assert all(path.stat().st_size > 0 for path in paths)
    return folder


@pytest.fixture(scope="module")
def text(out):
    return (out / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_folder_has_the_report_the_tables_and_each_picture_in_both_formats(out):
    assert {path.name for path in out.iterdir()} == {"report.html", "results.md", "results.csv", "pictures"}
    names = {path.name for path in (out / "pictures").iterdir()}
    stems = ["accuracy_gbitops", "accuracy_weight_mib", "indicators_trained"]
    stems += [f"{kind}_{budget}" for kind in ("bits", "losses") for budget in ("w2a2", "w3a3", "weights-3")]
    assert names == {f"{stem}.{ending}" for stem in stems for ending in ("png", "svg")}


def test_the_page_is_well_formed_and_has_all_parts_in_their_order(page):
    assert page.open == []
    texts = [text.strip() for text in page.texts]
    headings = ["Accuracy at a budget", "Accuracy at each budget", "Accuracy against cost", "Cost", "Size and BitOPs"]
    headings += ["Bits per layer", "Indicators", "Losses of the fine-tuning", "Machine and versions", "Command"]
    places = [texts.index(heading) for heading in [*headings, "Configuration"]]
    assert places == sorted(places)


def test_the_page_needs_no_other_file_and_no_script(page, text):
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    named = ("src", "href")
    addresses = [attributes[key] for _, attributes in page.elements for key in named if key in attributes]
    assert addresses
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in addresses)
    assert not re.search(r"url\(|@import|https?://", text)


def test_what_comes_from_the_comparison_is_text_and_no_markup(page):
    assert page.all("b") == []
    assert any('Rival <b> & "Co" | x' in text for text in page.texts)
    assert any("</code><script>alert(1)</script>" in text for text in page.texts)
    assert "A made-up comparison.\nIts second line." in page.texts


def test_readers_of_screens_find_their_way(page):
    assert page.all("html")[0]["lang"] == "en"
    assert all(attributes["scope"] in ("col", "row", "rowgroup") for attributes in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    alts = [attributes["alt"] for attributes in page.all("img")]
    assert len(alts) == 2 + 3 + 1 + 3
    assert len(set(alts)) == len(alts)
    notes = {attributes["id"] for attributes in page.all("li")}
    assert {attributes["href"][1:] for attributes in page.all("a")} == notes


@pytest.fixture(scope="module")
def chromium():
    """The browser; where there is none the tests are skipped, unless LLT_REQUIRE_CHROMIUM is set."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        message = "there is no chromium: apt-get install chromium"
        if os.environ.get("LLT_REQUIRE_CHROMIUM"):
            pytest.fail(f"LLT_REQUIRE_CHROMIUM is set, and {message}")
        pytest.skip(message)

    def run(path, folder, *options):
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
        command += [f"--user-data-dir={folder / 'profile'}", *options, path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return run


@pytest.fixture(scope="module")
def measure(chromium):
    """Opens a page in frames of all widths, and returns what is measured there and what the console says."""

    def run(text, folder):
        frame = '<iframe style="width: {}px; height: 800px; border: 0" srcdoc="{}"></iframe>'
        frames = "".join(frame.format(width, html.escape(text)) for width in WIDTHS)
        path = folder / "probe.html"
        path.write_text(PROBE.format(frames=frames), encoding="utf-8")
        dom, console = chromium(path, folder, "--dump-dom")
        title = re.search("<title>(.*?)</title>", dom).group(1)
        return json.loads(html.unescape(title)), console

    return run


def test_a_browser_shows_the_page_at_both_widths_with_all_pictures(measure, text, tmp_path):
    frames, console = measure(text, tmp_path)
    assert console == []
    assert [frame["width"] for frame in frames] == list(WIDTHS)
    for frame in frames:
        assert frame["overflow"] <= 0
        assert frame["wide"] == 0
        # White, black, grey, and the colours of the curves with their smoothed edges.
        assert len(frame["colours"]) == 9
        assert min(frame["colours"]) > 20


def test_the_measurement_sees_what_it_is_there_to_see(measure, tmp_path):
    broken = '<img src="data:image/png;base64,AAAA" alt=""><div style="width: 500px">x</div>'
    frames, console = measure(f"{broken}<script>console.error('seen')</script>", tmp_path)
    assert [frame["overflow"] > 0 for frame in frames] == [True, False]
    assert [frame["colours"] for frame in frames] == [[0], [0]]
    assert any("seen" in line for line in console)


def test_a_browser_prints_the_page_on_a4(chromium, out, tmp_path):
    pdf = tmp_path / "report.pdf"
    _, console = chromium(out / "report.html", tmp_path, f"--print-to-pdf={pdf}")
    assert console == []
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF-")
    sizes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox \[([^\]]*)\]", content)}
    assert {(round(width / 72 * 25.4), round(height / 72 * 25.4)) for _, _, width, height in sizes} == {(210, 297)}
    assert content.count(b"/Subtype /Image") >= 9
