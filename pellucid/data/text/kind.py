"""Text as a kind of data: files of running text, or of lines (floor 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..base import Content, DataKind, DataOption, OptionValue, PredictionForm, Source
from ..description import Description
from ..problem import DataModule
from ..table.kind import READ_OPTION
from ..table.read_options import ReadOptions
from .describe import text_facts
from .read import TOKENIZERS, decode_split, read_text, text_module
from .tokenize import TextPreprocessor


class TextKind(DataKind[TextPreprocessor]):
    """One text file, or a folder of them."""

    name = "text"
    title = "text"
    container = "a text"
    folder_form = "texts"
    noun = "text"
    endings = frozenset({".txt", ".md"})
    options = (
        DataOption("line_by_line", (bool,), "Take each line of a text as one example.", heading="Reading"),
        DataOption(
            "tokenizer",
            (str,),
            f"How to split a text: {' or '.join(TOKENIZERS)}.  [default: characters]",
            "NAME",
            heading="Reading",
        ),
        DataOption("vocab_size", (int,), "Tokens of --tokenizer bpe.  [default: 1000]", "N", heading="Reading"),
        READ_OPTION,
    )
    default_family = "transformer"
    inputs = ("text",)
    prediction = PredictionForm.TEXT
    preprocessor = TextPreprocessor

    def recognises(self, content: Content, options: Mapping[str, OptionValue]) -> bool:
        """A folder of text files alone; a file that has an option of text, or is called .txt or .md and has no option."""
        if not content.is_file:
            return content.is_folder and content.share(self.endings) == 1
        return any(option.name in options for option in self.options if option is not READ_OPTION) or (
            not {*options} - {"read"} and content.share(self.endings) == 1
        )

    def open(self, content: Content) -> tuple[str, list[Path]]:
        return content.stem, content.files

    def load(self, source: Source) -> DataModule:
        options: dict[str, OptionValue] = dict(source.options)
        if source.dataset is not None:
            options.setdefault("line_by_line", source.dataset.line_by_line)
            options["last"] = 0.0 if options["line_by_line"] else source.dataset.last
        return text_module(source, **options)

    def describe(self, source: Source) -> Description:
        """With the text's own size, and its alphabet by how often each character comes."""
        read = source.options.get("read")
        encoding = ReadOptions.parse(read).of_text(read)
        texts = [read_text(path, encoding)[0] for path in source.paths]
        return replace(super().describe(source), facts=text_facts(texts))

    def read_to_score(self, source: Source) -> tuple[str, list[str]]:
        """The text of a file and notes on how it was read; of a data set known by name, its test split."""
        if source.dataset is None:
            read = source.options.get("read")
            return read_text(source.path, ReadOptions.parse(read).of_text(read))
        data = self.load(source)
        assert isinstance(data.preprocessor, TextPreprocessor)
        return decode_split(data.preprocessor, data.test), []
