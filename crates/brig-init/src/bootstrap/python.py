# Runs in a Python that was started before its code is known: imports what is often wanted, says that it is ready, waits,
# and then becomes what `python3 FILE ARGUMENTS` would have been. brig-init's warm.rs is the other side.
def brig():
    import atexit, gc, os, sys
    # First, so that it is the last that is called.
    status, warm = None, set()
    # What was kept from the collector's eyes is given back where the interpreter takes everything down itself.
    atexit.register(lambda: (status is None or try_to_leave(), gc.unfreeze()))

    def try_to_leave():
        try:
            leave()
        except BaseException:
            # Something of the program's that looks like a module, a class or a stream and is none. It is taken down.
            pass

    def leave():
        # Taking down everything that was imported takes Python ten times as long as most programs run. It is left out
        # where nobody could notice: nothing that the program has made is finalized, and no library of its own is loaded.
        for name, module in list(sys.modules.items()):
            if name not in warm and str(getattr(module, "__file__", None)).endswith(".so"):
                return
        made = gc.get_objects()
        kinds = {id(type(each)): type(each) for each in made}
        kinds.update((id(each), each) for each in made if issubclass(type(each), type))
        for kind in kinds.values():
            if any("__del__" in type.__getattribute__(base, "__dict__") for base in type.__getattribute__(kind, "__mro__")):
                return
        # What abstract classes remember of the types they were asked about is no program's doing.
        def is_memory(callback):
            return type(callback) is types.BuiltinFunctionType and type(callback.__self__) is weakref.ref
        called = (each.__callback__ for each in made if issubclass(type(each), weakref.ref))
        if any(callback is not None and not is_memory(callback) for callback in called):
            return
        for stream in sys.stdout, sys.stderr:
            if stream is not None and not stream.closed:
                stream.flush()
        os._exit(status)

    with open("/proc/self/environ", "rb") as environ:
        began = {each.partition(b"=")[0] for each in environ.read().split(b"\0")}
    # What Python itself has set on its way, as it does for every program: LC_CTYPE, where no locale is given.
    own = {name: value for name, value in os.environb.items() if name not in began}
    import argparse, ast, base64, bisect, builtins, collections, contextlib, copy, csv, dataclasses, datetime, decimal
    import enum, fractions, functools, glob, hashlib, heapq, importlib.machinery, inspect, io, itertools, json, logging
    import math, operator, pathlib, random, re, shutil, signal, socket, statistics, string, struct, subprocess, tempfile
    import textwrap, threading, time, traceback, types, typing, urllib.parse, uuid, warnings
    import weakref, zlib
    for optional in "asyncio", "concurrent.futures":
        try:
            __import__(optional)
        except ImportError:
            pass
    warm.update(sys.modules)
    gc.collect()
    gc.freeze()
    os.write(3, b"r")
    if os.read(3, 1) != b"g":
        os._exit(0)
    os.close(3)
    with open(4, "rb") as request:
        cwd, file, count, *words = request.read().split(b"\0")[:-1]
    arguments, variables = words[:int(count)], words[int(count):]
    os.chdir(cwd)
    os.environb.clear()
    os.environb.update(each.split(b"=", 1) for each in variables)
    for name, value in own.items():
        os.environb.setdefault(name, value)
    time.tzset()
    random.seed()
    logging._startTime = logging._startTime and type(logging._startTime)(
        time.time() if isinstance(logging._startTime, float) else time.time_ns() * 1)
    file = os.fsdecode(file)
    sys.argv = [file, *map(os.fsdecode, arguments)]
    at = sys.orig_argv.index("-c") if "-c" in getattr(sys, "orig_argv", ()) else None
    if at is not None:
        sys.orig_argv[at:] = sys.argv
    # Isolated, there is no directory of the script in the path; else it has stood there as the empty one of `-c`.
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        sys.path[0] = os.path.dirname(file)
    main = vars(sys.modules["__main__"])
    del main["brig"]
    loader = importlib.machinery.SourceFileLoader("__main__", file)
    main.update(__file__=file, __cached__=None, __loader__=loader)
    code = None
    try:
        with io.open_code(file) as source:
            text = source.read()
        try:
            code = compile(text, file, "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            # Of a file that is no text, or is not what it says it is, the interpreter speaks in other words.
            if at is not None and sys.executable:
                os.execv(sys.executable, sys.orig_argv)
            raise
        del text, source
        exec(code, main)
        status = 0
    except SystemExit as end:
        if end.code is None or type(end.code) is int:
            status = (end.code or 0) & 255
        raise
    except BaseException as end:
        theirs = sys.excepthook
        if theirs is sys.__excepthook__ and not isinstance(end, KeyboardInterrupt):
            status = 1

        def hook(kind, value, trace):
            # Called once, by the interpreter: what is below the program's own frames is none of its business.
            sys.excepthook = theirs
            while trace is not None and trace.tb_frame.f_code is not code:
                trace = trace.tb_next
            sys.last_traceback = value.__traceback__ = trace
            theirs(kind, value, trace)

        sys.excepthook = hook
        raise
brig()
