"""Programs that do what another file says: the hash of such a program says nothing."""

from __future__ import annotations

import re

# Names as patterns for `re.fullmatch`, and what it is that decides what they do. A copy of one
# under another name is not seen; its hash is the same, so no rule should allow it.
_INTERPRETERS = {
    r"python[\d.]*[a-z]*|pypy[\d.]*|ipython[\d.]*": "a Python program",
    r"perl[\d.]*|raku|ruby[\d.]*|jruby|php[\d.]*(-fpm|-cgi)?|php-(fpm|cgi)[\d.]*": "a script",
    r"lua[\d.]*|luajit[\d.-]*|tclsh[\d.]*|wish[\d.]*|expect|guile[\d.]*|awk|[gm]awk": "a script",
    r"node|nodejs|deno|bun|d8|qjs|gjs[\d.-]*": "a JavaScript program",
    r"java|jshell|dotnet|mono[\w.-]*|beam(\.smp)?|erl|Rscript|R|julia": "code of its machine",
    r"sh|bash|dash|ash|zsh|ksh[\d.]*|mksh|fish|t?csh|pwsh": "a shell script",
    r"busybox[\w.-]*|toybox[\w.-]*": "a shell script, or whatever it is called as",
    r"ld-linux.*|ld-musl.*|ld\.so.*|ld\d*\.so.*|ld-[\d.]+\.so": "the program that it loads",
    r"qemu-.*|wine.*|box64|box86|FEX.*|rosetta.*": "the program that it runs for another machine",
    r"gdb(server)?|lldb.*|strace|ltrace|rr|perf|valgrind.*": ("whoever debugs with it"),
    r"wasmtime|wasmer|wasmedge": "the module that it runs",
}
_PATTERN = re.compile("|".join(_INTERPRETERS))
_DELETED = " (deleted)"


def is_interpreter(path: str) -> bool:
    """Whether the program at `path`, as in /proc/PID/exe, is such a one, by its name."""
    return bool(_PATTERN.fullmatch(path.removesuffix(_DELETED).rpartition("/")[2]))
