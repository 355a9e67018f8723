import contextlib
import gzip
import hashlib
import http.server
import os
import pathlib
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import schemas
from components.ingest import formats, idx, sources

NAMES = tuple(expected.name for expected in sources.PUBLISHED)
TRAIN_IMAGES = f"{NAMES[0]}.gz"


def small_data_set(seed: int = 0) -> dict[str, bytes]:
    """The four gzipped files of a small data set, in the order in which they are published."""
    random = np.random.default_rng(seed)
    files = {}
    for name in NAMES:
        count = 100 if name.startswith("train") else 20
        shape = (count, schemas.SIDE, schemas.SIDE) if "images" in name else (count,)
        header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
        files[f"{name}.gz"] = gzip.compress(header + random.bytes(int(np.prod(shape))), mtime=0)
    return files


FILES = small_data_set()
PUBLISHED = tuple(
    sources.Published(
        name.removesuffix(".gz"),
        len(gzip.decompress(content)),
        hashlib.sha256(gzip.decompress(content)).hexdigest(),
    )
    for name, content in FILES.items()
)
HALF = len(FILES[TRAIN_IMAGES]) // 2


class Mirror(http.server.ThreadingHTTPServer):
    """A mirror whose faults a test sets; remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(FILES)
        self.knows_ranges = True
        self.cuts: list[int] = []  # body bytes after which the next answers break off
        self.shift = 0  # bytes by which it misses the start of a range
        self.wait = 0.0  # seconds before an answer
        self.asked: list[tuple[str, str]] = []  # file name, Range header

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/mnist/"

    def ranges_of(self, name: str) -> list[str]:
        return [given for asked, given in self.asked if asked == name]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name = self.path.removeprefix("/mnist/")
        wanted = self.headers.get("Range", "")
        self.server.asked.append((name, wanted))
        time.sleep(self.server.wait)
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if not self.server.knows_ranges:
            start = 0
        start += self.server.shift if start else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cuts.pop(0)] if self.server.cuts else body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Mirror]:
    with Mirror() as mirror:
        threading.Thread(target=mirror.serve_forever, args=(0.01,), daemon=True).start()
        yield mirror
        mirror.shutdown()


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving() as mirror:
        yield mirror


@pytest.fixture
def other() -> Iterator[Mirror]:
    with serving() as mirror:
        yield mirror


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def closed() -> str:
    """A mirror nobody serves."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/"


class Run:
    """What locate is given, and the lines it reported."""

    def __init__(self, cache: pathlib.Path) -> None:
        self.cache = cache
        self.lines: list[str] = []

    def locate(self, source: str, *mirrors: str, mnist_dir: str | None = None) -> sources.Dataset:
        return sources.locate(
            source,
            environment={} if mnist_dir is None else {"MNIST_DIR": mnist_dir},
            cache=self.cache,
            report=self.lines.append,
            mirrors=mirrors,
            published=PUBLISHED,
        )

    def refusal(self, source: str, *mirrors: str, mnist_dir: str | None = None) -> str:
        with pytest.raises(sources.DataSourceError) as caught:
            self.locate(source, *mirrors, mnist_dir=mnist_dir)
        assert "\n" not in str(caught.value)
        assert ", expected " in str(caught.value)
        return str(caught.value)

    def cached(self) -> dict[str, bytes]:
        return contents(self.cache / "mnist")


@pytest.fixture
def run(tmp_path: pathlib.Path) -> Run:
    return Run(tmp_path / "cache")


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def filled(folder: pathlib.Path, files: dict[str, bytes]) -> str:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return str(folder)


@pytest.mark.parametrize("plain", [False, True], ids=["gzipped", "plain"])
def test_a_folder_with_the_published_bytes_is_mnist_whatever_its_name(
    tmp_path: pathlib.Path, run: Run, plain: bool
) -> None:
    files = {n.removesuffix(".gz"): gzip.decompress(c) for n, c in FILES.items()} if plain else FILES
    folder = filled(tmp_path / "scans", files)
    assert run.locate(folder)[:2] == ("mnist", folder)


def test_the_published_bytes_are_mnist_in_torchvisions_and_in_kerass_cache_too(
    tmp_path: pathlib.Path, run: Run
) -> None:
    filled(tmp_path / "cache" / "MNIST" / "raw", FILES)
    assert run.locate(str(tmp_path / "cache")) == sources.Dataset("mnist", str(tmp_path / "cache"))
    (x_train, y_train), (x_test, y_test) = formats.read(str(tmp_path / "cache"), formats.AS_THEY_ARE).values()
    path = str(tmp_path / "other.npz")
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    assert run.locate(path) == sources.Dataset("mnist", path)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test[::-1])
    assert run.locate(path) == sources.Dataset("other", path)
    filled(tmp_path / "fashion" / "FashionMNIST" / "raw", small_data_set(seed=1))
    assert run.locate(str(tmp_path / "fashion")).name == "FashionMNIST"


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_which_one_file_differs_is_named_after_itself(
    tmp_path: pathlib.Path, run: Run, name: str
) -> None:
    folder = filled(tmp_path / "scans", FILES | {name: small_data_set(seed=1)[name]})
    assert run.locate(f"{folder}/")[:2] == ("scans", folder)


def test_a_folder_named_mnist_does_not_pass_for_mnist(tmp_path: pathlib.Path, run: Run) -> None:
    folder = filled(tmp_path / "mnist", small_data_set(seed=1))
    assert run.locate(folder).name == "mnist-unverified"


def test_a_file_is_not_unpacked_beyond_the_published_length(
    tmp_path: pathlib.Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = filled(tmp_path / "scans", FILES | {TRAIN_IMAGES: gzip.compress(bytes(8 * idx.CHUNK_BYTES))})
    unpacked: list[int] = []

    def counted(path: str) -> Iterator[bytes]:
        for chunk in chunks(path):
            unpacked.append(len(chunk))
            yield chunk

    chunks = idx.chunks
    monkeypatch.setattr(idx, "chunks", counted)
    assert run.locate(folder).name == "scans"
    assert sum(unpacked) <= PUBLISHED[0].size + idx.CHUNK_BYTES


def test_a_relative_folder_becomes_absolute(
    tmp_path: pathlib.Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = filled(tmp_path / "scans", small_data_set(seed=1))
    monkeypatch.chdir(folder)
    assert run.locate(".")[:2] == ("scans", folder)


def test_a_remote_folder_keeps_its_address(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        idx, "file_names", lambda folder: list(FILES) if folder == "gs://bucket/scans" else []
    )
    monkeypatch.setattr(sources, "_matches", lambda path, expected: False)
    assert run.locate("gs://bucket/scans/")[:2] == ("scans", "gs://bucket/scans")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "the data source is empty"),
        ("absent", "No such file or directory"),
        ("bare", "holds no files"),
        ("partial", "no file matches t10k*labels*idx1*ubyte"),
        ("broken", "gzip data is cut or damaged"),
    ],
)
def test_a_folder_without_a_data_set_is_refused(
    tmp_path: pathlib.Path, run: Run, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    filled(tmp_path / "bare", {})
    filled(tmp_path / "partial", {name: FILES[f"{name}.gz"] for name in NAMES[:3]})
    filled(tmp_path / "broken", FILES | {TRAIN_IMAGES: FILES[TRAIN_IMAGES][:HALF]})
    monkeypatch.chdir(tmp_path)
    assert words in run.refusal(source)


@pytest.mark.parametrize("source", ["mnist", "auto"])
def test_mnist_dir_comes_before_cache_and_mirrors(
    tmp_path: pathlib.Path, run: Run, mirror: Mirror, source: str
) -> None:
    filled(run.cache / "mnist", FILES)
    folder = filled(tmp_path / "mine", FILES)
    assert run.locate(source, mirror.url, mnist_dir=folder)[:2] == ("mnist", folder)
    assert not mirror.asked


@pytest.mark.parametrize("source", ["mnist", "auto"])
@pytest.mark.parametrize(
    ("files", "words"),
    [
        (None, "No such file or directory"),
        ({}, "holds no files"),
        (small_data_set(seed=1), "checksums are not MNIST's"),
    ],
)
def test_a_mnist_dir_without_mnist_is_an_error_even_when_mnist_can_be_had_elsewhere(
    tmp_path: pathlib.Path, run: Run, source: str, files: dict[str, bytes] | None, words: str
) -> None:
    filled(run.cache / "mnist", FILES)
    folder = str(tmp_path / "absent") if files is None else filled(tmp_path / "mine", files)
    message = run.refusal(source, mnist_dir=folder)
    assert message.startswith("MNIST_DIR is set: ")
    assert words in message
    assert not run.lines


def test_an_empty_mnist_dir_counts_as_unset(run: Run) -> None:
    folder = filled(run.cache / "mnist", FILES)
    assert run.locate("mnist", mnist_dir="").folder == folder


@pytest.mark.parametrize("source", ["mnist", "auto"])
def test_mnist_is_downloaded_once(run: Run, mirror: Mirror, source: str) -> None:
    assert run.locate(source, mirror.url)[:2] == ("mnist", str(run.cache / "mnist"))
    assert run.cached() == FILES
    assert [name for name, _ in mirror.asked] == list(FILES)
    assert run.locate(source, mirror.url).name == "mnist"
    assert len(mirror.asked) == len(FILES)


def test_progress_is_reported_by_quarters(run: Run, mirror: Mirror) -> None:
    run.locate("mnist", mirror.url)
    host = mirror.url.split("/")[2]
    mine = [line for line in run.lines if line.startswith(TRAIN_IMAGES)]
    assert mine[0] == f"{TRAIN_IMAGES}: downloading from {host}, 0.00 MB of 0.08 MB"
    assert mine[-1] == f"{TRAIN_IMAGES}: 0.08 MB of 0.08 MB"
    assert len(mine) == 5
    assert not any("\n" in line for line in run.lines)


def test_only_missing_and_damaged_files_are_downloaded(run: Run, mirror: Mirror) -> None:
    damaged, missing = list(FILES)[1:3]
    files = {name: content for name, content in FILES.items() if name != missing}
    filled(run.cache / "mnist", files | {damaged: b"damaged"})
    assert run.locate("mnist", mirror.url).name == "mnist"
    assert run.cached() == FILES
    assert [name for name, _ in mirror.asked] == [damaged, missing]


def test_a_cut_connection_is_taken_up_where_it_broke(run: Run, mirror: Mirror) -> None:
    mirror.cuts = [HALF]
    assert run.locate("mnist", mirror.url).name == "mnist"
    assert run.cached() == FILES
    first, second = mirror.ranges_of(TRAIN_IMAGES)
    assert first == ""
    assert HALF - sources.PART_BYTES <= int(second[len("bytes=") : -1]) <= HALF
    assert any("continuing" in line for line in run.lines)


def test_an_interrupted_download_is_continued_by_the_next_run(run: Run, mirror: Mirror) -> None:
    mirror.cuts = [HALF, 0]
    assert "connection lost after" in run.refusal("mnist", mirror.url)
    assert list(run.cached()) == [f"{TRAIN_IMAGES}.part"]
    left = len(run.cached()[f"{TRAIN_IMAGES}.part"])
    assert run.locate("mnist", mirror.url).name == "mnist"
    assert mirror.ranges_of(TRAIN_IMAGES) == ["", f"bytes={left}-", f"bytes={left}-"]
    assert run.cached() == FILES


def test_the_next_mirror_continues_what_the_first_began(run: Run, mirror: Mirror, other: Mirror) -> None:
    mirror.cuts = [HALF, 0]
    assert run.locate("mnist", mirror.url, other.url).name == "mnist"
    assert other.ranges_of(TRAIN_IMAGES)[0].startswith("bytes=")
    assert run.cached() == FILES


def test_a_mirror_that_always_cuts_is_given_up(run: Run, mirror: Mirror) -> None:
    mirror.files[TRAIN_IMAGES] = os.urandom(100 * sources.PART_BYTES)
    mirror.cuts = [sources.PART_BYTES + 1] * 100
    run.refusal("mnist", mirror.url)
    assert len(mirror.asked) == sources.ATTEMPTS


def test_a_server_without_ranges_is_asked_for_the_whole_file(run: Run, mirror: Mirror) -> None:
    mirror.knows_ranges = False
    filled(run.cache / "mnist", {f"{TRAIN_IMAGES}.part": FILES[TRAIN_IMAGES][:HALF]})
    assert run.locate("mnist", mirror.url).name == "mnist"
    assert mirror.ranges_of(TRAIN_IMAGES) == [f"bytes={HALF}-"]
    assert run.cached() == FILES


def test_a_mirror_that_sends_another_range_is_given_up(run: Run, mirror: Mirror) -> None:
    mirror.shift = 1
    filled(run.cache / "mnist", {f"{TRAIN_IMAGES}.part": FILES[TRAIN_IMAGES][:HALF]})
    assert f"sent bytes from {HALF + 1:,} on when asked from {HALF:,} on" in run.refusal("mnist", mirror.url)
    assert run.cached() == {f"{TRAIN_IMAGES}.part": FILES[TRAIN_IMAGES][:HALF]}


@pytest.mark.parametrize(
    "left",
    [b"something else", os.urandom(len(FILES[TRAIN_IMAGES])), FILES[TRAIN_IMAGES] + b"more"],
    ids=["wrong start", "wrong and whole", "too long"],
)
def test_a_wrong_partial_file_is_thrown_away_and_the_download_begun_anew(
    run: Run, mirror: Mirror, left: bytes
) -> None:
    filled(run.cache / "mnist", {f"{TRAIN_IMAGES}.part": left})
    assert run.locate("mnist", mirror.url).name == "mnist"
    assert mirror.ranges_of(TRAIN_IMAGES) == [f"bytes={len(left)}-", ""]
    assert run.cached() == FILES


def test_a_whole_partial_file_is_kept_without_asking(run: Run, mirror: Mirror) -> None:
    filled(run.cache / "mnist", {f"{TRAIN_IMAGES}.part": FILES[TRAIN_IMAGES]})
    assert run.locate("mnist", mirror.url).name == "mnist"
    assert not mirror.ranges_of(TRAIN_IMAGES)
    assert run.cached() == FILES


@pytest.mark.parametrize(
    "content",
    [small_data_set(seed=1)[TRAIN_IMAGES], b"<html>Log in to this network</html>"],
    ids=["other images", "a web page"],
)
def test_a_wrong_checksum_is_refused_and_leaves_nothing(run: Run, mirror: Mirror, content: bytes) -> None:
    mirror.files[TRAIN_IMAGES] = content
    message = run.refusal("mnist", mirror.url)
    assert "sent other bytes than the published ones" in message
    assert all(way in message for way in ("--data DIR", "MNIST_DIR", "--data auto"))
    assert not run.cached()
    assert len(mirror.asked) == 1


def test_a_mirror_with_a_wrong_checksum_is_followed_by_the_next(
    run: Run, mirror: Mirror, other: Mirror
) -> None:
    mirror.files[TRAIN_IMAGES] = small_data_set(seed=1)[TRAIN_IMAGES]
    assert run.locate("mnist", mirror.url, other.url).name == "mnist"
    assert run.cached() == FILES


def test_an_endless_file_is_not_downloaded_to_its_end(run: Run, mirror: Mirror) -> None:
    mirror.files[TRAIN_IMAGES] = os.urandom(20 * PUBLISHED[0].size)
    run.refusal("mnist", mirror.url)
    assert not any("1.57 MB of" in line for line in run.lines)
    assert not run.cached()


def test_every_mirror_is_named_when_all_fail(run: Run, mirror: Mirror, closed: str) -> None:
    mirror.files.clear()
    message = run.refusal("mnist", mirror.url, closed)
    assert f"127.0.0.1:{mirror.server_port}: HTTP status 404; " in message
    assert f"{closed.split('/')[2]}: no connection)" in message
    assert not run.lines


def test_a_silent_mirror_is_given_up_soon(run: Run, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ANSWER_SECONDS", 0.1)
    mirror.wait = 1.0
    begin = time.monotonic()
    assert "no answer within 0.1 s" in run.refusal("mnist", mirror.url)
    assert time.monotonic() - begin < 0.9


def test_a_cache_that_cannot_be_written_is_an_error(run: Run, mirror: Mirror) -> None:
    run.cache.write_bytes(b"a file")
    assert "cannot be written (" in run.refusal("mnist", mirror.url)
    assert "the digits cannot be written (" in run.refusal("auto", mirror.url)


def test_a_cache_with_competing_files_is_an_error(run: Run, mirror: Mirror) -> None:
    filled(run.cache / "mnist", FILES | {NAMES[0]: gzip.decompress(small_data_set(seed=1)[TRAIN_IMAGES])})
    assert "holds other IDX files beside MNIST's" in run.refusal("mnist", mirror.url)


def test_auto_falls_back_to_the_digits_and_says_so_in_one_line(run: Run, closed: str) -> None:
    dataset = run.locate("auto", closed)
    assert dataset[:2] == ("digits", str(run.cache / "digits"))
    (line,) = run.lines
    assert line.startswith(f"Could not download MNIST: {TRAIN_IMAGES} cannot be downloaded (")
    assert line.endswith("no connection); this run uses the handwritten digits of scikit-learn")
    assert "\n" not in line


def test_auto_does_not_fall_back_where_the_digits_may_not_take_the_place_of_mnist(
    run: Run, closed: str
) -> None:
    with pytest.raises(sources.DataSourceError, match=r"no connection\), for a reason"):
        sources.locate(
            "auto", environment={}, cache=run.cache, report=run.lines.append, mirrors=[closed],
            no_digits=lambda: "for a reason",
        )  # fmt: skip
    assert not (run.cache / "digits").exists()


def test_mnist_never_falls_back(run: Run, closed: str) -> None:
    run.refusal("mnist", closed)
    assert not (run.cache / "digits").exists()


def digits(cache: pathlib.Path) -> dict[str, idx.Images]:
    folder = sources.write_digits(cache / "digits").folder
    return {split: idx.read_pair(*pair) for split, pair in idx.split_files(folder).items()}


def test_the_digits_are_split_by_class_without_overlap(tmp_path: pathlib.Path) -> None:
    train, test = (digits(tmp_path)[split] for split in (schemas.TRAIN_SPLIT, schemas.TEST_SPLIT))
    assert len(train.labels) + len(test.labels) == 1797
    for label in range(schemas.CLASSES):
        mine, theirs = np.sum(train.labels == label), np.sum(test.labels == label)
        assert abs(theirs - (mine + theirs) / sources.EVERY) < 1
    assert len(np.unique(np.concatenate([train.images, test.images]), axis=0)) == 1797


def test_the_digits_use_all_grey_values_inside_an_empty_border(tmp_path: pathlib.Path) -> None:
    images = digits(tmp_path)[schemas.TRAIN_SPLIT].images
    inner = np.zeros((schemas.SIDE, schemas.SIDE), bool)
    inner[sources.BORDER : -sources.BORDER, sources.BORDER : -sources.BORDER] = True
    assert not images[:, ~inner].any()
    assert (images.max(axis=(1, 2)) == 255).all()
    assert (images.min(axis=(1, 2)) == 0).all()
    # MNIST: 13.3 % of the pixels are above half, the mean grey value is 13.1 % of white.
    assert 0.11 < np.mean(images > 127) < 0.16
    assert 0.11 < images.mean() / 255 < 0.16


def test_an_enlarged_digit_looks_like_the_small_one() -> None:
    from sklearn.datasets import load_digits

    small = load_digits().images[:100]
    inner = [
        sources.enlarge(image)[sources.BORDER : -sources.BORDER, sources.BORDER : -sources.BORDER]
        for image in small
    ]
    side = len(inner[0])
    # The centre of small pixel i lies at (i + 1/2) side / 8 of the enlarged image.
    centres = ((np.arange(8) + 0.5) * side / 8).astype(int)
    sampled = np.stack([image[np.ix_(centres, centres)] for image in inner])
    own = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(sampled, small, strict=True)]
    assert min(own) > 0.85


def test_an_enlarged_digit_keeps_up_and_left() -> None:
    corner = np.zeros((8, 8))
    corner[0, :2] = 16
    large = sources.enlarge(corner)
    rows, columns = np.nonzero(large > 127)
    assert rows.max() < schemas.SIDE / 3 < columns.max() + 2
    assert columns.max() < schemas.SIDE / 2


def test_the_digits_are_the_same_bytes_every_time(tmp_path: pathlib.Path) -> None:
    first, second = (sources.write_digits(tmp_path / name / "digits") for name in "ab")
    assert contents(pathlib.Path(first.folder)) == contents(pathlib.Path(second.folder))
    assert os.listdir(tmp_path / "a") == ["digits"]
    images = pathlib.Path(idx.split_files(first.folder)[schemas.TEST_SPLIT].images).read_bytes()
    # Fails when the digits change: figures measured on the older ones no longer compare.
    assert hashlib.sha256(images).hexdigest().startswith("4b59e4487d7ab7fc")


def test_right_digits_stay_and_damaged_ones_are_written_anew(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "digits"
    sources.write_digits(folder)
    whole = contents(folder)
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    sources.write_digits(folder)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    (folder / NAMES[1]).write_bytes(b"damaged")
    sources.write_digits(folder)
    assert contents(folder) == whole


def test_one_in_n_of_every_class_is_chosen() -> None:
    labels = np.array([3, 3, 1, 3, 1, 3])
    assert sources.every_nth_of_class(labels, 2).tolist() == [True, False, True, True, False, False]


@pytest.mark.skipif("MNIST_DIR" not in os.environ, reason="MNIST_DIR is not set")
def test_mnist_is_recognized(tmp_path: pathlib.Path) -> None:
    folder = os.environ["MNIST_DIR"]
    dataset = sources.locate(
        "auto", environment={"MNIST_DIR": folder}, cache=tmp_path, report=pytest.fail, mirrors=()
    )
    assert dataset[:2] == ("mnist", os.path.abspath(folder))
    assert sources.from_folder(folder).name == "mnist"


def test_digits_are_the_embedded_ones_whatever_can_be_downloaded(run: Run, mirror: Mirror) -> None:
    assert run.locate("digits", mirror.url)[:2] == ("digits", str(run.cache / "digits"))
    assert mirror.asked == []
