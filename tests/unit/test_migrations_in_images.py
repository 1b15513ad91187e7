"""A release judges the migrations in its image, whether it was built on this machine or pushed before."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.stub import Stubber

from alva.aws import Aws, Poll, Target
from alva.cli.bundle_builder import BundleBuilder
from alva.cli.docker_builder import DockerBuilder
from alva.cli.revisions import revisions_in_image
from alva.errors import AlvaError
from alva.oci import Layout, read_folder
from alva.release.manifest import Manifest, Migration, Parameters, Service
from tests.layouts import entry, file_entry, tar, write_layout

FOLDER = "/app/drizzle"
MANIFEST = Manifest(
    environment="e",
    prefix="p",
    region="us-east-1",
    cluster="c",
    namespace="n",
    load_balancer="l",
    dashboard="p",
    alarm_prefix="p-",
    alarms={},
    parameters=Parameters(
        lock="/p/lock",
        releases="/p/release",
        causes="/p/why",
        secrets="/p/secrets",
        asleep="/p/asleep",
    ),
    tags={},
    stacks=(),
    services=(
        Service(
            name="api",
            service="alva-api",
            repository="alva-api",
            dockerfile="apps/api/Dockerfile",
            port=1,
            paths=(),
            host=None,
            health_path="/",
            log_group="l",
            image_parameter="A",
        ),
    ),
    migration=Migration(family="m", container="m", service="api", image_parameter="M", stack="s", folder=FOLDER),
    secrets=(),
)


@pytest.fixture
def aws() -> Aws:
    return Aws(Target.local("http://127.0.0.1:1"), Poll(shortest_seconds=0.02, longest_seconds=0.1))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An image with a history whose second migration, in a later layer, drops a table."""
    return write_layout(
        tmp_path / "layout",
        {"app/drizzle/0_a.sql": b"CREATE TABLE t ()", "app/drizzle/1_b.sql": b"SELECT 1", "app/server.js": b""},
        {"./app/drizzle/1_b.sql": b"DROP TABLE u", "etc/drizzle/2_c.sql": b"no SQL"},
    )


def in_repository(aws: Aws, layout: Layout) -> Stubber:
    """ECR's responses when the image is read."""
    ecr = Stubber(aws.ecr)
    ecr.add_response("describe_images", {"imageDetails": [{"imageDigest": layout.digest}]})
    ecr.add_response("batch_get_image", {"images": [{"imageManifest": layout.manifest.decode()}]})
    for digest in layout.layers:
        ecr.add_response("get_download_url_for_layer", {"downloadUrl": layout.blob(digest).as_uri()})
    return ecr


def built_here(tmp_path: Path, layout: Layout) -> DockerBuilder:
    builder = DockerBuilder(tmp_path)
    builder._images[layout.digest] = layout
    return builder


def test_migrations_of_an_image_that_docker_built_are_read_out_of_it(aws: Aws, layout: Layout, tmp_path: Path) -> None:
    builder = built_here(tmp_path, layout)
    first, second = revisions_in_image(aws, MANIFEST, builder, layout.digest, tmp_path / "cache") or ()
    assert (first.revision, first.contractions) == ("0_a", ())
    assert (second.revision, second.contractions) == ("1_b", ("drops table u",))


def test_migrations_of_an_image_that_is_given_by_its_digest_are_read_in_its_repository(
    aws: Aws, layout: Layout, tmp_path: Path
) -> None:
    """Those of the checkout may belong to another commit."""
    (tmp_path / "apps" / "drizzle").mkdir(parents=True)
    with in_repository(aws, layout) as ecr:
        found = revisions_in_image(aws, MANIFEST, DockerBuilder(tmp_path), layout.digest, tmp_path / "cache")
        ecr.assert_no_pending_responses()
    assert [revision.revision for revision in found or ()] == ["0_a", "1_b"]
    with Stubber(aws.ecr) as ecr:  # the result is cached
        ecr.add_response("describe_images", {"imageDetails": [{"imageDigest": layout.digest}]})
        again = revisions_in_image(aws, MANIFEST, DockerBuilder(tmp_path), layout.digest, tmp_path / "cache")
    assert again == found


def test_migrations_that_several_layers_have_are_judged_together(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for layer, name, sql in (("low", "0_a", "SELECT 1"), ("low", "1_b", "SELECT 1"), ("high", "1_b", "DROP TABLE u")):
        file = tmp_path / layer / "app" / "drizzle" / f"{name}.sql"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(sql)
    builder = BundleBuilder(tmp_path, tmp_path / "images")
    image = SimpleNamespace(layers=(tmp_path / "low", tmp_path / "other", tmp_path / "high"))
    monkeypatch.setattr(builder._store, "find", lambda _: image)
    found = revisions_in_image(aws, MANIFEST, builder, "sha256:" + "0" * 64, tmp_path / "cache")
    assert [(each.revision, each.contractions) for each in found or ()] == [("0_a", ()), ("1_b", ("drops table u",))]


def test_image_without_the_folder_is_refused_with_the_setting_that_names_it(
    aws: Aws, layout: Layout, tmp_path: Path
) -> None:
    elsewhere = replace(MANIFEST, migration=replace(MANIFEST.migration, folder="/app/migrations"))
    with pytest.raises(AlvaError, match="the image of api has no folder /app/migrations") as caught:
        revisions_in_image(aws, elsewhere, built_here(tmp_path, layout), layout.digest, tmp_path / "cache")
    assert "MIGRATION" in (caught.value.next_step or "")
    unnamed = replace(MANIFEST, migration=replace(MANIFEST.migration, folder=None))
    assert revisions_in_image(aws, unnamed, built_here(tmp_path, layout), layout.digest, tmp_path / "cache") is None


def test_layer_that_cannot_be_read_is_named(aws: Aws, layout: Layout, tmp_path: Path) -> None:
    for digest in layout.layers:
        layout.blob(digest).write_bytes(b"\x28\xb5\x2f\xfd no archive")
    with pytest.raises(AlvaError, match="cannot read the migrations in the image of api"):
        revisions_in_image(aws, MANIFEST, built_here(tmp_path, layout), layout.digest, tmp_path / "cache")
    with in_repository(aws, layout), pytest.raises(AlvaError, match="cannot read the migrations in the image of api"):
        revisions_in_image(aws, MANIFEST, DockerBuilder(tmp_path), layout.digest, tmp_path / "cache")


def read(*layers: bytes) -> dict[str, bytes] | None:
    files = read_folder((io.BytesIO(layer) for layer in layers), "/a/b")
    return None if files is None else {str(name): content for name, content in files.items()}


def files(*names: str) -> bytes:
    return tar(file_entry(name, name.encode()) for name in names)


def test_later_layers_add_replace_and_remove() -> None:
    first = files("a/b/1", "a/b/c/2", "a/other", "ab/3")
    assert read(first) == {"1": b"a/b/1", "c/2": b"a/b/c/2"}
    assert read(first, gzip.compress(files("./a/b/4"))) == {"1": b"a/b/1", "c/2": b"a/b/c/2", "4": b"./a/b/4"}
    assert read(first, files("a/b/.wh.1")) == {"c/2": b"a/b/c/2"}
    assert read(first, files("a/b/.wh.c")) == {"1": b"a/b/1"}
    assert read(first, files("a/b/5", "a/b/.wh..wh..opq")) == {"5": b"a/b/5"}
    assert read(first, files("a/.wh.b")) is None
    assert read(first, files(".wh.a"), files("a/b/6")) == {"6": b"a/b/6"}


def test_folder_exists_or_is_missing() -> None:
    assert read(files("a/bb/1", "b/1")) is None
    assert read() is None
    assert read(tar([entry("a/b", tarfile.DIRTYPE)])) == {}
    assert read(files("a/b")) is None
    assert read(files("a/b/../../../etc/x", "/a/b/1")) == {"1": b"/a/b/1"}


def test_index_selects_its_image_for_linux(aws: Aws, layout: Layout, tmp_path: Path) -> None:
    index = {
        "manifests": [
            {"digest": "sha256:" + "0" * 64, "platform": {"os": "unknown", "architecture": "unknown"}},
            {"digest": layout.digest, "platform": {"os": "linux", "architecture": "amd64"}},
        ]
    }
    digest = "sha256:" + "1" * 64
    with Stubber(aws.ecr) as ecr:
        ecr.add_response("describe_images", {"imageDetails": [{"imageDigest": digest}]})
        ecr.add_response("batch_get_image", {"images": [{"imageManifest": json.dumps(index)}]})
        ecr.add_response("batch_get_image", {"images": [{"imageManifest": layout.manifest.decode()}]})
        for each in layout.layers:
            ecr.add_response("get_download_url_for_layer", {"downloadUrl": layout.blob(each).as_uri()})
        found = revisions_in_image(aws, MANIFEST, DockerBuilder(tmp_path), digest, tmp_path / "cache")
    assert [revision.revision for revision in found or ()] == ["0_a", "1_b"]
