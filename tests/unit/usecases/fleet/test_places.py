from pathlib import Path

from undercroft.usecases.fleet.places import Places


def test_without_variables_the_places_are_the_systems():
    places = Places.default({})
    assert places.state == Path("/var/lib/undercroft")
    assert places.admission_socket == Path("/run/undercroft/admission.sock")
    assert places.policy == Path("/etc/undercroft/policy.yaml")
    assert places.database_url == "/var/lib/undercroft/fleet.db"


def test_variables_move_each_folder_by_itself_and_an_empty_one_counts_as_missing():
    places = Places.default(
        {"UNDERCROFT_STATE": "/srv/state", "UNDERCROFT_RUN": "", "UNDERCROFT_ETC": "/srv/etc"}
    )
    assert places.spool == Path("/srv/state/spool")
    assert places.run == Path("/run/undercroft")
    assert places.policy == Path("/srv/etc/policy.yaml")


def test_a_named_database_takes_the_place_of_the_file_in_the_state_folder():
    url = "postgresql:///fleet"
    assert Places.default({"UNDERCROFT_FLEET_DATABASE": url}).database_url == url
