"""Every test that renders does so with each Helm at hand, and says which are missing."""

import pytest
from chart import rendering


def pytest_report_header() -> str:
    found = ", ".join(f"{major} ({path})" for major, path in sorted(rendering.helms().items()))
    return f"helm: {found or 'none: set HELM3 and HELM4'}"


@pytest.fixture(params=[3, 4], ids=["helm3", "helm4"])
def helm(request: pytest.FixtureRequest) -> str:
    """A Helm binary, of each supported major version in turn."""
    path = rendering.helms().get(request.param)
    if path is None:
        pytest.skip(f"no Helm {request.param}: set HELM{request.param} or put it on the PATH")
    return path


@pytest.fixture
def newest_helm() -> str:
    """One Helm, where the answer cannot depend on which."""
    try:
        return rendering.any_helm()
    except LookupError as error:
        pytest.skip(str(error))
