"""`llamalab completion`: shell completion of verbs, options and their words."""

import argparse
from collections.abc import Iterable

from llamalab.cli.arguments import one_of
from llamalab.cli.parser import Parser
from llamalab.hardware import HARDWARE
from llamalab.presets import PRESETS
from llamalab.startup.hints import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from llamalab.cli.options_of import Option

SUMMARY = "completion of verbs and options for bash, zsh or fish"
EXAMPLES = (
    'eval "$(llamalab completion bash)"',
    "llamalab completion zsh > ~/.zfunc/_llamalab",
    "llamalab completion fish > ~/.config/fish/completions/llamalab.fish",
)
SHELLS = ("bash", "zsh", "fish")
# By the long name of an option, or the metavar of an argument.
_KNOWN: dict[str, Iterable[str]] = {
    **dict.fromkeys(("--model", "ONE", "OTHER"), PRESETS),
    **dict.fromkeys(("--hardware", "NAME"), HARDWARE),
}
_PATHS = ("--model", "--hardware", "ONE", "OTHER", "IN", "OUT", "RUN")  # which take the path of a file too
_FILE_WORDS = ("FILE", "PATH", "FOLDER", "DIR", ".json")  # in the metavar of an option that takes one
_FILES = ' $(compgen -f -- "$now")'


def configure(parser: Parser) -> None:
    """The options of `llamalab completion`."""
    parser.add_argument("shell", type=one_of("the shell", SHELLS), metavar="|".join(SHELLS), help="which shell")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    print(script(args.shell))
    return 0


def script(shell: str) -> str:
    """The completion script for a shell."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


class _Completed(NamedTuple):
    """An option, or the arguments of a verb, as the shells complete it: words that may follow, and whether a file may.

    `names` are empty for arguments.
    """

    names: tuple[str, ...]
    about: str
    takes_value: bool
    words: tuple[str, ...]
    takes_file: bool


class _Verb(NamedTuple):
    """A verb as the shells complete it."""

    name: str
    about: str
    options: tuple[_Completed, ...]
    words: tuple[str, ...]
    takes_file: bool


def _verbs() -> list[_Verb]:
    from llamalab.cli import VERBS
    from llamalab.cli.options_of import options_of

    verbs = []
    for verb, about in VERBS.items():
        known = list(map(_completed, options_of(verb)))
        places = [one for one in known if not one.names]
        words = tuple(dict.fromkeys(word for one in places for word in one.words))
        file = any(one.takes_file for one in places)
        verbs.append(_Verb(verb, _plain(about), tuple(one for one in known if one.names), words, file))
    return [_Verb("help", "the options of a verb", (), tuple(VERBS), False), *verbs]


def _completed(option: "Option") -> _Completed:
    longest = max(option.names, key=len, default=option.metavar)
    path = option.metavar == "PATH"  # of a checkpoint, where no preset would do
    words = () if path or not option.takes_value else tuple(_KNOWN.get(longest, ()))
    file = longest in _PATHS or any(word in option.metavar for word in _FILE_WORDS)
    return _Completed(option.names, _plain(option.about), option.takes_value, option.words or words, file)


def _bash() -> str:
    verbs = _verbs()
    values = "\n".join(
        f"        {verb.name},{name}) COMPREPLY=({_candidates(option.words, option.takes_file)}); return;;"
        for verb in verbs
        for option in verb.options
        for name in option.names
        if option.words
    )
    names = "\n".join(
        f'        {verb.name}) COMPREPLY=($(compgen -W "{" ".join(_names(verb))}" -- "$now"));;' for verb in verbs
    )
    places = "\n".join(
        f"        {verb.name}) COMPREPLY=({_candidates(verb.words, verb.takes_file)}); return;;"
        for verb in verbs
        if verb.words
    )
    return f"""_llamalab() {{
    local now="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" verb="${{COMP_WORDS[1]}}"
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W "{" ".join(verb.name for verb in verbs)}" -- "$now")); return
    fi
    case "$verb,$before" in
{values}
    esac
    if [[ $now != -* && $before != --* ]]; then
        case "$verb" in
{places}
        esac
    fi
    if [[ $now != -* ]]; then COMPREPLY=($(compgen -f -- "$now")); return; fi
    case "$verb" in
{names}
    esac
}}
complete -o filenames -F _llamalab llamalab"""


def _candidates(words: tuple[str, ...], file: bool) -> str:
    return f'$(compgen -W "{" ".join(words)}" -- "$now")' + (_FILES if file else "")


def _names(verb: _Verb) -> list[str]:
    return [name for option in verb.options for name in option.names if name.startswith("--")]


def _zsh() -> str:
    verbs = _verbs()
    named = "\n".join(f"        '{verb.name}:{verb.about}'" for verb in verbs)
    body = "\n".join(f"        {verb.name}) _arguments {_zsh_specs(verb)};;" for verb in verbs)
    return f"""#compdef llamalab
_llamalab_word_or_file() {{ _alternative "words:word:($*)" 'files:file:_files' }}
_llamalab() {{
    local -a verbs
    verbs=(
{named}
    )
    if (( CURRENT == 2 )); then _describe 'verb' verbs; return; fi
    local verb=$words[2]
    shift words; (( CURRENT-- ))
    case $verb in
{body}
    esac
}}
if [[ ${{funcstack[1]}} == _llamalab ]]; then _llamalab "$@"; else compdef _llamalab llamalab; fi"""


def _zsh_specs(verb: _Verb) -> str:
    options = [_zsh_option(name, option) for option in verb.options for name in option.names]
    return " ".join([*options, f"'*:argument:{_zsh_action(verb.words, verb.takes_file or not verb.words)}'"])


def _zsh_option(name: str, option: _Completed) -> str:
    """An option as _arguments reads it; a value follows a long name, or an equals sign after it."""
    if not option.takes_value:
        return f"'{name}[{option.about}]'"
    equals = "=" if name.startswith("--") else ""
    return f"'{name}{equals}[{option.about}]:value:{_zsh_action(option.words, option.takes_file)}'"


def _zsh_action(words: tuple[str, ...], file: bool) -> str:
    """What follows: one of some words, a file, either, or anything."""
    if words and file:
        return f" _llamalab_word_or_file {' '.join(words)}"
    return f"({' '.join(words)})" if words else "_files" if file else " "


def _fish() -> str:
    verbs = _verbs()
    lines = [
        "function __llamalab_verb",
        "    set -l words (commandline -opc)",
        '    test (count $words) -gt 1; and test "$words[2]" = "$argv[1]"',
        "end",
    ]
    for verb in verbs:
        lines.append(f"complete -c llamalab -n __fish_use_subcommand -f -a {verb.name} -d '{verb.about}'")
        of_verb = f"complete -c llamalab -n '__llamalab_verb {verb.name}'"
        lines += [f"{of_verb} {_fish_option(option)} -d '{option.about}'" for option in verb.options]
        if verb.words:
            lines.append(f"{of_verb}{'' if verb.takes_file else ' -f'} -a '{' '.join(verb.words)}'")
    return "\n".join(lines)


def _fish_option(option: _Completed) -> str:
    """An option as `complete` reads it: -r, a value follows; -f, and it is no file."""
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
    value = (" -r" if option.takes_file else " -r -f") if option.takes_value else ""
    return names + value + (f" -a '{' '.join(option.words)}'" if option.words else "")


def _plain(text: str) -> str:
    """A help text without characters that shells interpret."""
    return "".join(" " if sign in "'[]:\"\\`$" else sign for sign in text)
