"""`llamalab completion`: shell completion of verbs, options and their words."""

import argparse

from llamalab.cli.arguments import one_of
from llamalab.cli.parser import Parser
from llamalab.hardware import HARDWARE
from llamalab.presets import PRESETS
from llamalab.startup.hints import NamedTuple

SUMMARY = "completion of verbs and options for bash, zsh or fish"
EXAMPLES = (
    'eval "$(llamalab completion bash)"',
    "llamalab completion zsh > ~/.zfunc/_llamalab",
    "llamalab completion fish > ~/.config/fish/completions/llamalab.fish",
)
SHELLS = ("bash", "zsh", "fish")
_PATHS = ("--model", "--hardware")  # which take the path of a file too
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
    """An option as the shells complete it: the words that may follow, and whether a file may."""

    name: str
    about: str
    takes_value: bool
    words: tuple[str, ...]
    takes_file: bool


def _options(verb: str) -> list[_Completed]:
    from llamalab.cli.options_of import options_of

    known = {"--model": tuple(PRESETS), "--hardware": tuple(HARDWARE)}
    return [
        _Completed(
            name,
            _plain(option.about),
            option.takes_value,
            option.words or known.get(name, ()),
            name in _PATHS or any(word in option.metavar for word in _FILE_WORDS),
        )
        for option in options_of(verb)
        for name in option.names
        if name.startswith("--")
    ]


def _bash() -> str:
    from llamalab.cli import VERBS

    cases = []
    for verb in VERBS:
        options = _options(verb)
        values = "\n".join(
            f'        {verb},{option.name}) COMPREPLY=($(compgen -W "{" ".join(option.words)}" -- "$now")'
            f"{_FILES if option.takes_file else ''}); return;;"
            for option in options
            if option.words
        )
        names = " ".join(option.name for option in options)
        cases.append((values, f'        {verb}) COMPREPLY=($(compgen -W "{names}" -- "$now"));;'))
    values = "\n".join(value for value, _ in cases if value)
    names = "\n".join(name for _, name in cases)
    return f"""_llamalab() {{
    local now="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" verb="${{COMP_WORDS[1]}}"
    if [[ $COMP_CWORD -eq 1 ]]; then COMPREPLY=($(compgen -W "help {" ".join(VERBS)}" -- "$now")); return; fi
    case "$verb,$before" in
        help,help) COMPREPLY=($(compgen -W "{" ".join(VERBS)}" -- "$now")); return;;
{values}
    esac
    if [[ $now != -* ]]; then COMPREPLY=($(compgen -f -- "$now")); return; fi
    case "$verb" in
{names}
    esac
}}
complete -o filenames -F _llamalab llamalab"""


def _zsh() -> str:
    from llamalab.cli import VERBS

    verbs = "\n".join(f"        '{verb}:{_plain(about)}'" for verb, about in VERBS.items())
    cases = []
    for verb in VERBS:
        specs = " ".join(map(_zsh_option, _options(verb)))
        cases.append(f"        {verb}) _arguments {specs} '*:file:_files';;")
    body = "\n".join(cases)
    return f"""#compdef llamalab
_llamalab() {{
    local -a verbs
    verbs=(
{verbs}
    )
    if (( CURRENT == 2 )); then _describe 'verb' verbs; return; fi
    local verb=$words[2]
    shift words; (( CURRENT-- ))
    case $verb in
{body}
    esac
}}
if [[ ${{funcstack[1]}} == _llamalab ]]; then _llamalab "$@"; else compdef _llamalab llamalab; fi"""


def _zsh_option(option: _Completed) -> str:
    """An option as _arguments reads it: what follows is one of some words, a file, either, or anything."""
    if not option.takes_value:
        return f"'{option.name}[{option.about}]'"
    words = f"({' '.join(option.words)})"
    either = f'{{_alternative "words:word:{words}" "files:file:_files"}}'
    action = either if option.words and option.takes_file else words if option.words else "_files"
    return f"'{option.name}=[{option.about}]:value:{action if option.words or option.takes_file else ' '}'"


def _fish() -> str:
    from llamalab.cli import VERBS

    lines = ["complete -c llamalab -n __fish_use_subcommand -f -a help -d 'the options of a verb'"]
    for verb, summary in VERBS.items():
        lines.append(f"complete -c llamalab -n __fish_use_subcommand -f -a {verb} -d '{_plain(summary)}'")
        for option in _options(verb):
            # -r: a value follows; -f: and it is no file.
            value = (" -r" if option.takes_file else " -r -f") if option.takes_value else ""
            words = f" -a '{' '.join(option.words)}'" if option.words else ""
            lines.append(
                f"complete -c llamalab -n '__fish_seen_subcommand_from {verb}' -l {option.name[2:]}{value}{words} "
                f"-d '{option.about}'"
            )
    return "\n".join(lines)


def _plain(text: str) -> str:
    """A help text without characters that shells interpret."""
    return "".join(" " if sign in "'[]:\"\\`$" else sign for sign in text)
