"""Entry point: patches the standard library before any other import, then runs the command line."""

try:
    from gevent import monkey

    monkey.patch_all()

    # The patch must come first.
    from nuage_lab.vsd.cli import main
except ModuleNotFoundError as problem:
    raise SystemExit(
        f"python -m nuage_lab.vsd: {problem.name} is missing;"
        " run scripts/setup, then .venv/bin/python -m nuage_lab.vsd"
    ) from None

if __name__ == "__main__":
    raise SystemExit(main())
