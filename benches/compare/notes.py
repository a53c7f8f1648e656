"""The notes application in Django, and its live test, which is run as often as asked for.

Usage: notes.py TABLES TESTS DATABASE; prints the seconds that the tests took."""

import os
import sys
import time
import unittest
import urllib.request
from urllib.parse import parse_qs, unquote, urlsplit

import django
from django.conf import settings

TABLES, TESTS, DATABASE = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
url = urlsplit(os.environ["DATABASE_URL"])
settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path.lstrip("/"),
            "USER": url.username,
            "PASSWORD": url.password,
            "HOST": unquote(url.netloc.rpartition("@")[2].rpartition(":")[0] or url.netloc.rpartition("@")[2]),
            "PORT": url.port or "",
            "TEST": {"NAME": DATABASE},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["__main__"],
    ROOT_URLCONF="__main__",
    STATIC_URL="static/",
)
django.setup()

from django.apps import apps
from django.db import models
from django.http import HttpResponse
from django.test import LiveServerTestCase
from django.test.runner import DiscoverRunner
from django.urls import path

# The models are in this file.
apps.get_app_config("__main__").models_module = sys.modules["__main__"]
previous = None
for number in range(1, TABLES + 1):
    fields = {
        "__module__": "__main__",
        "note": models.TextField(db_index=True),
        "Meta": type("Meta", (), {"app_label": "__main__"}),
    }
    if previous:
        fields["previous"] = models.ForeignKey(previous, models.CASCADE, null=True)
    previous = type(f"T{number}", (models.Model,), fields)
    Note = Note if number > 1 else previous


def notes(request):
    if request.method == "POST":
        Note.objects.create(note=request.body.decode())
        return HttpResponse(status=201)
    return HttpResponse("\n".join(Note.objects.order_by("id").values_list("note", flat=True)))


urlpatterns = [path("notes", notes)]


class Notes(LiveServerTestCase):
    """One class, so that the server starts once for all tests; its start and stop aren't counted."""

    took = 0.0

    def __call__(self, result=None):
        start = time.perf_counter()
        super().__call__(result)
        Notes.took += time.perf_counter() - start

    def write_and_read(self):
        address = self.live_server_url + "/notes"
        with urllib.request.urlopen(address, data=b"a note") as written:
            self.assertEqual(written.status, 201)
        with urllib.request.urlopen(address) as read:
            self.assertEqual(read.read(), b"a note")


runner = DiscoverRunner(verbosity=0, interactive=False)
for number in range(TESTS):
    setattr(Notes, f"test_{number}", lambda self: self.write_and_read())
suite = unittest.defaultTestLoader.loadTestsFromTestCase(Notes)
runner.setup_test_environment()
databases = runner.setup_databases()
sys.stderr = open(os.devnull, "w")
result = runner.run_suite(suite)
sys.stderr = sys.__stderr__
runner.teardown_databases(databases)
runner.teardown_test_environment()
for _, trace in result.failures + result.errors:
    print(trace, file=sys.stderr)
if not result.wasSuccessful() or result.testsRun != TESTS:
    sys.exit(1)
print(Notes.took)
