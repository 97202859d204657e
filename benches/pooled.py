"""Drives llm-sandbox for `cargo bench --bench brig -- compare`: its Docker backend with its pool, on the image given.

A line of the standard input is what to run: `true` as a command, anything else as Python. The answer is a line with the
milliseconds from the session's beginning to the end of its output; the pool has containers ready before each. The end of
the input closes the pool.
"""

import sys
import time

from llm_sandbox import SandboxBackend
from llm_sandbox.pool import PoolConfig, create_pool_manager
from llm_sandbox.pool.session import PooledSandboxSession


def main() -> None:
    config = PoolConfig(min_pool_size=2, max_pool_size=6, enable_prewarming=True)
    with create_pool_manager(
        backend=SandboxBackend.DOCKER,
        config=config,
        lang="python",
        image=sys.argv[1],
        skip_environment_setup=True,
        runtime_configs={"network_mode": "none"},
    ) as pool:
        print("ready", flush=True)
        for line in sys.stdin:
            what = line.rstrip("\n")
            began = time.perf_counter()
            with PooledSandboxSession(pool_manager=pool, lang="python") as session:
                if what == "true":
                    code = session.execute_command("true").exit_code
                else:
                    code = session.run(what).exit_code
                took = time.perf_counter() - began
            assert code == 0, what
            print(f"{1000 * took:.3f}", flush=True)


if __name__ == "__main__":
    main()
