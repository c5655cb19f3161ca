"""How do tests of commands get a folder and a cache of their own, and no libnrt but one that they name?"""
import tempfile
import unittest
from pathlib import Path

from command_line import run


class OwnHome(unittest.TestCase):
    STDIN = b""  # of commands that are given no other

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.own = Path(cls.folder.name)
        cls.env = {"NEUROGLOT_HOME": str(cls.own / "home"), "NEUROGLOT_LIBNRT": "/none/libnrt.so.1"}

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def run_here(cls, *arguments, stdin=None, **env):
        return run(*arguments, stdin=cls.STDIN if stdin is None else stdin, env={**cls.env, **env})
