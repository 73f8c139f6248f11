"""Entry point: patches the standard library before anything else is imported, then runs the command line."""

from gevent import monkey

monkey.patch_all()

from nuage_lab.vsd.cli import main  # noqa: E402  (the patch must come first)

if __name__ == "__main__":
    raise SystemExit(main())
