"""The names that are refused in a pickle.

Nothing in a pickle is ever called here (see `pickles`), so this list does not protect this machine:
it tells the user that the file was made to run code, before the file reaches a reader that would
run it. A name is refused if it reaches the system, runs or imports code, or walks attributes; any
other class is a harmless placeholder.
"""

# ruff: noqa: SIM905 (a list of words reads best as words)

import functools
import sys

# Modules of the standard library (Python 2's too) that reach the system or run code.
_MODULES = frozenset(
    """
    _aix_support _bootlocale _ctypes _frozen_importlib _frozen_importlib_external _imp _io
    _osx_support _pickle _posixsubprocess _pyio _pyrepl _socket _ssl _thread _winapi _winreg
    antigravity asyncio asyncore atexit bdb bz2 cgi cmd code codeop commands concurrent contextlib
    cPickle cProfile ctypes curses dbm dis distutils doctest ensurepip faulthandler fcntl
    fileinput ftplib functools gc glob gzip http httplib idlelib imaplib imp importlib inspect io
    lib2to3 linecache lzma mailbox mailcap marshal mmap modulefinder msvcrt multiprocessing
    nntplib nt ntpath operator _operator os pdb pickle pickletools pip pipes pkg_resources pkgutil
    platform poplib popen2 posix posixpath profile pstats pty pwd py_compile pyclbr pydoc readline
    reload resource runpy sched select selectors setuptools shelve shlex shutil signal site
    smtplib socket socketserver sqlite3 ssl subprocess symtable sys sysconfig syslog tarfile
    telnetlib tempfile test threading timeit tkinter trace tracemalloc turtle unittest urllib
    urllib2 venv wave webbrowser winreg wsgiref xml xmlrpc zipapp zipfile zipimport
    """.split()
)

# Third-party packages with the same powers, by prefix of the module's dotted name.
_PREFIXES = (
    "IPython aiohttp execnet fabric fsspec httpx invoke ipykernel joblib logging.config"
    " logging.handlers numpy.distutils numpy.f2py numpy.testing paramiko pexpect plumbum"
    " ptyprocess requests sh torch._appdirs torch._classes torch._dynamo torch._export"
    " torch._inductor torch._jit_internal torch._library torch._ops torch._strobelight"
    " torch.backends.xeon torch.classes torch.distributed.elastic torch.distributed.launcher"
    " torch.distributed.rpc torch.distributed.run torch.fx torch.hub torch.jit torch.library"
    " torch.multiprocessing torch.ops torch.package torch.serialization torch.testing"
    " torch.utils._config_module torch.utils.benchmark torch.utils.bottleneck"
    " torch.utils.collect_env torch.utils.cpp_extension torch.utils.data.datapipes"
    " torch.utils.hipify torch.utils.model_zoo torch.utils.show_pickle urllib3 yaml"
).split()

# Modules that others import and so re-export: ('torch', 'os.system') reaches os.system.
_REACHED = frozenset(
    """
    __builtin__ _pickle builtins ctypes importlib marshal nt os pickle posix pty runpy shutil
    socket subprocess sys
    """.split()
)

# Functions that run code, import, open or walk attributes, whichever module re-exports them.
_FUNCTIONS = frozenset(
    """
    __import__ apply breakpoint check_call check_output compile delattr eval evaluate exec
    execfile execv execve fork genfromtxt getattr getattribute getoutput getstatusoutput globals
    hasattr import_module load load_library load_url loads locals memmap open popen read_pickle
    resolve_name run_module run_path runcode runctx runsource runstring setattr spawn spawnl
    spawnv startfile system vars Popen _load_from_bytes _eval_repr _get_attr _getattribute
    _locate_function _create_filehandle FileHandler
    """.split()
)

# The only names allowed in the modules below.
_BUILTINS = frozenset(
    """
    Ellipsis NotImplemented None bool bytearray bytes complex dict float frozenset int list long
    object range set slice str tuple type unicode xrange basestring __main__
    """.split()
)
_DILL = frozenset(
    """
    _create_array _create_cell _create_code _create_dtypemeta _create_ftype _create_function
    _create_lock _create_namedtuple _create_rlock _create_stringi _create_stringo _create_type
    _create_typing_tuple _create_weakproxy _create_weakref _import_module _load_type _setattr
    _unmarshal
    """.split()
)
_CLOUDPICKLE = frozenset(
    """
    _builtin_type _class_setstate _fill_function _function_setstate _make_cell _make_dict_items
    _make_dict_keys _make_dict_values _make_empty_cell _make_function _make_skel_func
    _make_skeleton_class _make_skeleton_enum _make_typevar dynamic_subimport subimport
    """.split()
)
_ONLY = {
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,
    "types": frozenset({"SimpleNamespace", "MappingProxyType", "GenericAlias"}),
    "codecs": frozenset({"encode"}),
    "_codecs": frozenset({"encode"}),
    "copyreg": frozenset({"_reconstructor", "__newobj__", "__newobj_ex__"}),
    "copy_reg": frozenset({"_reconstructor", "__newobj__", "__newobj_ex__"}),
    "dill": _DILL,
    "cloudpickle": _CLOUDPICKLE,
}

# Classes of the standard library with lower-case names; other such names in it are functions,
# which no checkpoint needs (but loggers pickle as a call).
_LOWER_CASE_CLASSES = frozenset(
    """
    array date datetime defaultdict deque getLogger namedtuple struct_time time timedelta timezone
    tzinfo
    """.split()
)

# These import the module that their argument names, so the argument is checked like a name.
IMPORTERS = frozenset({"_import_module", "subimport"})

# Names that would be refused but occur in ordinary files: the layout of a sparse tensor, the
# state of NumPy's random numbers, a regular expression.
_EXCUSED = frozenset(
    {
        ("torch.serialization", "_get_layout"),
        ("numpy.random._pickle", "__bit_generator_ctor"),
        ("numpy.random._pickle", "__generator_ctor"),
        ("numpy.random._pickle", "__randomstate_ctor"),
        ("re", "_compile"),
    }
)


# Schedulers of torch before 2.4 hold one of their own functions, which pickles as getattr of the
# class (or of the object) or, with protocol 4, as a dotted name.
_ATTRIBUTES_OF = "torch.optim."


def is_getattr(module: str, name: str) -> bool:
    """Whether a name is `getattr`, which is allowed only for a `scheduler_attribute`."""
    return module in ("builtins", "__builtin__") and name == "getattr"


def scheduler_attribute(module: str, name: str) -> bool:
    """Whether `module`.`name`, as 'Class.function', is a function of one of torch's schedulers."""
    owner, _, attribute = name.partition(".")
    return (
        module.startswith(_ATTRIBUTES_OF)
        and owner[:1].isupper()
        and not refused(module, owner)
        and attribute.isidentifier()
        and not attribute.startswith("__")
        and attribute not in _FUNCTIONS
    )


@functools.lru_cache(4096)  # a pickle can repeat a name a million times
def refused(module: str, name: str) -> bool:
    """Return whether `module`.`name` is a way to run code; both may be dotted."""
    if (module, name) in _EXCUSED:
        return False
    modules, names = module.split("."), name.split(".")
    if not all(part.isidentifier() for part in modules + names):
        return True
    root, last = modules[0], names[-1]
    if root in _ONLY:
        return name not in _ONLY[root]
    if module_refused(module) or last in _FUNCTIONS:
        return True
    # `pickle`'s protocol 4 walks dotted names through any attribute.
    if any(part in _REACHED for part in (*names, *modules)):
        return True
    # Nested classes have dotted names, but so do methods, which can run what their object holds.
    if len(names) > 1 and not all(part[0].isupper() for part in names):
        return True
    if last.startswith("__") and last != "__dict__" and not last.startswith("__pyx_unpickle_"):
        return True
    if root in sys.stdlib_module_names:
        looks_like_class = last.lstrip("_")[:1].isupper() or last in _LOWER_CASE_CLASSES
        return not looks_like_class
    return False


def module_refused(module: str) -> bool:
    """Return whether a whole module is refused, as the argument of an import would be."""
    root = module.split(".")[0]
    if root in _MODULES or root in ("builtins", "__builtin__"):
        return True
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in _PREFIXES)
