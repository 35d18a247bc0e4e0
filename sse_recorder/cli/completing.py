r"""What Tab does in a shell: commands, options, files, ids, and words of SQL in quotes.

The shell runs the program with the line up to the cursor in its environment, and is
answered in lines: `KIND,VALUE`, or with a meaning, `KIND<Tab>VALUE<Tab>MEANING`:

    plain   a word that takes the place of the one that is being typed
    sql     one that takes the place of the last word of an argument in quotes
    file    complete the name of a file (`dir`: of a folder)

click has this, but for SQL.  Its scripts pass on words, which bash has cut at `:` and
`=`, and take the whole argument for the word; and bash and fish close the quotes behind
the only match, where a query has only begun.  So the scripts here are our own, on
click's classes:

- bash is given the only match a second time, with a space behind it: what the two have
  in common is put in, and no more.  Where it lists, it is given the words alone.
- zsh is told that what stands before the last word stays.
- fish is given whole arguments, as it wants them, the only match twice, too.  Where one
  is chosen from its list, it does close the quotes.

This is imported by every Tab, so it loads no library but click.
"""

from __future__ import annotations

import re
import shlex
from typing import Any, Final

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)

from sse_recorder import config
from sse_recorder.cli.sql_words import word_before

SQL: Final = "sql"
"""The type of an item that takes the place of the last word of an argument."""

Item = CompletionItem[str]

_BASH: Final = r"""
%(complete_func)s() {
    local kind value has_sql= before="${2%%"${2##*[!A-Za-z0-9_]}"}"
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            plain) COMPREPLY+=("$value") ;;
            sql)
                has_sql=1
                # 63: bash lists the matches, and puts none in.
                if [[ $COMP_TYPE == 63 ]]; then
                    COMPREPLY+=("$value")
                else
                    COMPREPLY+=("$before$value")
                fi ;;
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
        esac
    done < <(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" \
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
    if [[ $has_sql && $COMP_TYPE != 63 && ${#COMPREPLY[@]} == 1 ]]; then
        COMPREPLY+=("${COMPREPLY[0]} ")
    fi
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_ZSH: Final = r"""#compdef %(prog_name)s

%(complete_func)s() {
    local line="${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX"
    [[ $PREFIX == --*=* ]] && compset -P '*='
    local kind value meaning row
    local -a plain plain_rows sql sql_rows
    while IFS=$'\t' read -r kind value meaning; do
        row="$value${meaning:+  -- $meaning}"
        row="${row[1,COLUMNS-1]}"
        case $kind in
            plain) plain+=("$value"); plain_rows+=("$row") ;;
            sql) sql+=("$value"); sql_rows+=("$row") ;;
            dir) _path_files -/ ;;
            file) _path_files ;;
        esac
    done < <(env COMP_LINE="$line" %(complete_var)s=zsh_complete \
        ${~words[1]} 2>/dev/null)
    (( $#plain )) && compadd -V plain -l -d plain_rows -a plain
    if (( $#sql )); then
        compset -P '*[^A-Za-z0-9_]'
        compadd -M 'm:{a-zA-Z}={A-Za-z}' -V sql -S '' -l -d sql_rows -a sql
    fi
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH: Final = r"""
function %(complete_func)s
    set -l program (commandline -opc)[1]
    for line in (env COMP_LINE=(commandline -cp | string collect) \
            %(complete_var)s=fish_complete $program 2>/dev/null)
        set -l part (string split -m 2 \t -- $line)
        switch $part[1]
            case plain sql
                printf '%%s\t%%s\n' $part[2] $part[3]
            case dir
                __fish_complete_directories (commandline -ct)
            case file
                __fish_complete_path (commandline -ct)
        end
    end
end

complete --no-files --keep-order --command %(prog_name)s \
    --arguments "(%(complete_func)s)"
"""


class _Shell(ShellComplete):
    """What is the same in every shell."""

    _is_quoted = False
    _incomplete = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is being typed, and that one."""
        words, self._is_quoted = _split(config.environment().get("COMP_LINE", ""))
        self._incomplete = words[-1]
        return words[1:-1], words[-1]

    def get_completions(self, args: list[str], incomplete: str) -> list[Item]:
        """Return what may take the word's place: where nothing is known, a file."""
        found = super().get_completions(args, incomplete) or [Item("", "file")]
        # Without quotes around it, a word of SQL is all of it.
        return [
            item
            for item in found
            if item.type != SQL or (self._is_quoted and item.value)
        ]

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Return the line for an item, with its meaning."""
        return "\t".join((item.type, item.value, " ".join((item.help or "").split())))


class _Bash(_Shell, BashComplete):
    source_template = _BASH

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Return the line for an item; bash has no room for its meaning."""
        return f"{item.type},{item.value}"


class _Zsh(_Shell, ZshComplete):
    source_template = _ZSH


class _Fish(_Shell, FishComplete):
    source_template = _FISH

    def get_completions(self, args: list[str], incomplete: str) -> list[Item]:
        """Return whole arguments, and the only one twice."""
        found = super().get_completions(args, incomplete)
        option = "".join(re.findall("^--[^=]*=", incomplete))
        size = len(word_before(incomplete))
        for item in found:
            # What differs in its case alone would be put in without the quotes.
            item.value = (
                incomplete + item.value[size:]
                if item.type == SQL
                else option + item.value
            )
        if len(found) == 1 and found[0].type == SQL:
            found.append(Item(f"{found[0].value} ", SQL))
        return found


def install() -> None:
    """Have click use these scripts and classes in place of its own."""
    for shell in (_Bash, _Zsh, _Fish):
        add_completion_class(shell)


def _split(line: str) -> tuple[list[str], bool]:
    """Return the words of a line as a shell reads them, and whether the last is open.

    The last is empty where a new word has to begin.
    """
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:  # the end comes within quotes
        return [*words, lexer.token or ""], True
    if not words or line[-1].isspace():
        words.append("")
    return words, False
