"""What TensorBoard and optuna-dashboard show of a sweep, in a browser."""

import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from handclip_core.ports import free_port
from tests.limits import LIMIT_S
from tests.tune_jobs.simulated import run, settings
from tune_jobs.storage.location import folder_of

DRIVER = shutil.which("chromedriver") or ""
pytestmark = [
    pytest.mark.faults,  # two servers that import TensorFlow's and Optuna's parts, and a browser
    pytest.mark.browser,
    pytest.mark.skipif(not DRIVER, reason="there is no chromedriver"),
]
