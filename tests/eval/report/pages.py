"""Writes reports and reads them as a browser would."""

from html.parser import HTMLParser

from m2f_jax.eval.analysis.analysis import analyze
from m2f_jax.eval.report.writing import write_report
from m2f_jax.eval.results.published import Published


class Page(HTMLParser):
    """The elements of a page, which must be balanced, and the texts of its tables' cells."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open, self.names, self.rows, self.attributes = [], [], [], []
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, name, attributes):
        self.names.append(name)
        self.attributes += [(name, *pair) for pair in attributes]
        if name not in ("meta", "img"):
            self.open.append(name)
        if name == "tr":
            self.rows.append([])
        if name in ("td", "th"):
            self.rows[-1:] or self.rows.append([])
            self.rows[-1].append("")

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, text):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += text


def write(path, metric, title="A title", pictures=(), published=None, settings=None):
    result = metric.result()
    write_report(
        path,
        result,
        analyze(metric, result),
        title=title,
        settings=settings or {},
        published=published or Published(),
        pictures=pictures,
    )
    return Page(path)
