from PIL import Image

from conmim_lightning.reporting.page import Section, Table, embed, write_page


def test_texts_are_escaped_and_empty_sections_left_out(tmp_path):
    sections = [
        Section("First & second", tables=[Table(["<a>"], [["<script>x"]], [0])], summary="more", text="<b>"),
        Section("Nothing"),
    ]
    write_page(tmp_path / "x.html", "<title>", ["<lead>"], sections)
    page = (tmp_path / "x.html").read_text()
    assert "&lt;script&gt;x" in page
    assert "<script>x" not in page
    assert all(text not in page for text in ("<lead>", "<a>", "<b>", "Nothing", "Plotly"))
    assert '<h2 id="first-second">First &amp; second</h2>' in page
    assert len(page) < 5000, "without charts, plotly's script is not needed"


def test_a_page_is_one_file(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    picture = embed(tmp_path / "a.png", tmp_path)
    write_page(tmp_path / "x.html", "t", [], [Section("s", charts=["<div>chart</div>"], pictures=[picture])])
    page = (tmp_path / "x.html").read_text()
    assert f'src="data:image/png;base64,{picture.data}"' in page
    assert "<div>chart</div>" in page
    assert "plotly.js v" in page
    assert "<link" not in page
    assert "<script src" not in page
