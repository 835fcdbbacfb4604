"""The embedded model's tokenizer: one token for every word of the terrarium, bytes for the rest."""

from pathlib import Path
from typing import Final, TypeAlias

from tokenizers import Regex, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from engine.terrarium.grammar import vocabulary
from engine.terrarium.lexicon import LEVELS, words
from engine.terrarium.world import COLOURS, COLUMNS, GROUNDS, KINDS, LIGHTS, ROWS

Tokenizer: TypeAlias = PreTrainedTokenizerFast

PAD: Final = "<pad>"
END: Final = "<end>"
IMAGE: Final = "<image>"
ANSWER: Final = "<answer>"
SPECIAL: Final = (PAD, END, IMAGE, ANSWER)
END_ID: Final = SPECIAL.index(END)

_TASKS: Final = ("describe", "elements", "associate", "caption", "word", "pos", "noun")
# Punctuation between two words of a JSON answer is one token, which halves its length.
_RUNS: Final = ('{"', '"}', '": "', '": ["', '": [{"', '", "', '"], "', '"]}', '"}, {"', '"}]}')
# The words that judge a caption. They stand behind all other tokens, whose numbers are those of models
# that were trained before any caption was judged.
_JUDGING: Final = ("shown", "yes", "no")
_PIECES: Final = r" ?\p{L}+| ?\p{N}+|[^\s\p{L}\p{N}](?:[^\p{L}\p{N}\n]*[^\s\p{L}\p{N}])?|\s+"


def known_words() -> tuple[str, ...]:
    """The words that are single tokens, at the start of a text and after a space or quote."""
    groups = (words(), vocabulary(), KINDS, COLOURS, GROUNDS, LIGHTS, ROWS, COLUMNS, LEVELS, _TASKS)
    return tuple(sorted({word for group in groups for word in group}))


def build_tokenizer() -> Tokenizer:
    """Make the tokenizer; the same at every call."""
    pieces = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    for word in known_words():
        pieces += [word, "Ġ" + word]
    pieces += [run.replace(" ", "Ġ") for run in _RUNS]
    for word in _JUDGING:
        pieces += [word, "Ġ" + word]
    vocab = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    # With no merges, a piece is one token if it is in the vocabulary, else its bytes.
    backend = Backend(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[IMAGE, ANSWER],
        chat_template=chat_template(),
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        padding_side="left",
    )


def reading_tokenizer() -> Tokenizer:
    """The same words for a model that only reads: padded behind, and a text ends with `END`."""
    tokenizer = build_tokenizer()
    end = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, END_ID)])
    tokenizer.backend_tokenizer.post_processor = end
    tokenizer.padding_side = "right"
    tokenizer.chat_template = None
    return tokenizer


def load_tokenizer(directory: Path) -> Tokenizer:
    """Open a saved tokenizer."""
    tokenizer: Tokenizer = AutoTokenizer.from_pretrained(directory)
    return tokenizer


def chat_template() -> str:
    """The template: the pieces of all messages, one a line, then the mark that asks for an answer.

    Roles leave no trace. A piece is a text, or an image as `IMAGE`.
    """
    return (
        "{%- set lines = namespace(all=[]) -%}"
        "{%- for message in messages -%}"
        "{%- if message['content'] is string -%}"
        "{%- set lines.all = lines.all + [message['content']] -%}"
        "{%- else -%}"
        "{%- for piece in message['content'] -%}"
        "{%- set lines.all = lines.all + "
        "[piece['text'] if piece['type'] == 'text' else '" + IMAGE + "'] -%}"
        "{%- endfor -%}"
        "{%- endif -%}"
        "{%- endfor -%}"
        "{{- lines.all | join('\\n') -}}"
        "{%- if add_generation_prompt -%}{{- '" + ANSWER + "' -}}{%- endif -%}"
    )
