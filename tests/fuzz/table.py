# SPDX-License-Identifier: Apache-2.0
"""Runs every target of a build with the preset `fuzz`, one a processor at a time, and prints a Markdown table of what they did.

    python tests/fuzz/table.py BUILD SECONDS [TARGET ...]

A target ends after a million executions, or SECONDS, or its first finding, which is left in BUILD. Ends with status 1 when there is one.
"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
EXECUTIONS = 1_000_000


def run(build, seconds, target):
    seeds = build / "seeds" / target
    subprocess.run([sys.executable, HERE / "seeds.py", target, seeds], check=True)
    log = build / f"{target}.log"
    began = time.monotonic()
    with log.open("w") as file:
        status = subprocess.run(
            [build / "bin" / f"fuzz_{target}", f"-max_total_time={seconds}", f"-runs={EXECUTIONS}", "-print_final_stats=1",
             "-rss_limit_mb=4096", "-timeout=10", "-max_len=65536", f"-artifact_prefix={build}/{target}-", seeds],
            stdout=subprocess.DEVNULL, stderr=file, env={**os.environ, "ASAN_OPTIONS": "intercept_tls_get_addr=0"}).returncode
    text = log.read_text(errors="replace")
    done = re.findall(r"number_of_executed_units: *(\d+)", text)
    edges = re.findall(r"cov: (\d+)", text)
    print(f"| `{target}` | {int(done[-1]) if done else 0:,} | {time.monotonic() - began:.0f} s | {edges[-1] if edges else ''} "
          f"| {'none' if status == 0 else f'see {log}'} |", flush=True)
    return status


def main():
    build, seconds = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    targets = sys.argv[3:] or sorted(path.name.removeprefix("fuzz_") for path in (build / "bin").glob("fuzz_*"))
    print("| target | executions | wall time | edges reached | findings |\n| --- | --- | --- | --- | --- |", flush=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        failed = sum(status != 0 for status in pool.map(lambda target: run(build, seconds, target), targets))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
