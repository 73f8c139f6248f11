"""The means of dying are outside of the product: it knows nothing of them, and they do nothing
unless asked.
"""

import os
import signal
import subprocess

import pytest

from tests.faults.patient_engine import PatientEngine
from tests.support.appliance import ROOT
from tests.support.host import Host, delete_containers


def _nobody_revives():
    raise AssertionError("the appliance died")


@pytest.fixture
def order(tmp_path):
    """An order to die at the first answer, and where effects would be noted."""
    (tmp_path / "order").write_text("after:answer.GetDefaultAddressSpaces.1")
    return {"NUAGE_DIE": str(tmp_path / "order"), "NUAGE_EFFECTS": str(tmp_path / "effects")}


@pytest.mark.parametrize("module", ["nuage_appliance", "tests.faults.dying"])
def test_only_the_launcher_obeys_an_order_to_die(simulator, order, module):
    host = Host(simulator, "obeys", module=module, environment=order)
    engine = PatientEngine(host.appliance.plugins, host.api, _nobody_revives)
    try:
        if module == "nuage_appliance":
            engine.network_rm(engine.network_create("n"))
            assert host.appliance.process.poll() is None and not os.path.exists(
                order["NUAGE_EFFECTS"]
            )
        else:
            with pytest.raises(AssertionError, match="the appliance died"):
                engine.network_create("n")
            assert host.appliance.process.wait(60) == -signal.SIGKILL
    finally:
        host.close()
        delete_containers(simulator, [host.name])


def test_without_an_order_the_launcher_is_the_appliance(simulator):
    host = Host(simulator, "plain", module="tests.faults.dying")
    try:
        host.engine.network_rm(host.engine.network_create("n"))
        host.wait_clean()
        host.check_log()
    finally:
        host.close()


def test_the_product_names_no_variable_of_the_launcher():
    named = subprocess.run(
        ["grep", "-rlE", "NUAGE_(DIE|EFFECTS)", "nuage_appliance", "scripts", "rpmbuild"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (named.returncode, named.stdout) == (1, "")
