"""Record the schemas of the files that `launch` writes, small, in schemas.json: python make_schemas.py

Needs kubernetes 37.0 from PyPI (JSON schemas of its models, of Kubernetes 1.35). Those of the JobSet's own types are transcribed from
hack/python-sdk/swagger.json of kubernetes-sigs/jobset (v1alpha2), those of a task from sky/utils/schemas.py of skypilot 0.14.1. Types that
no file here uses are left open.
"""

import json
from pathlib import Path
from typing import Any

from kubernetes.client.models.v1_job_template_spec import V1JobTemplateSpec

KEPT = (
    *("V1JobTemplateSpec", "V1JobSpec", "V1ObjectMeta", "V1PodTemplateSpec", "V1PodSpec", "V1Container", "V1ContainerPort", "V1EnvVar"),
    *("V1EnvVarSource", "V1ObjectFieldSelector", "V1ResourceRequirements", "V1VolumeMount", "V1Volume", "V1PodFailurePolicy"),
    *("V1PersistentVolumeClaimVolumeSource", "V1PodFailurePolicyRule", "V1PodFailurePolicyOnExitCodesRequirement"),
    "V1PodFailurePolicyOnPodConditionsPattern",
)
TEXT, WHOLE, TEXTS = {"type": "string"}, {"type": "integer"}, {"type": "array", "items": {"type": "string"}}
SWITCH, OPEN = {"type": "boolean"}, {"type": "object"}


def kind(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(required)}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def items(name: str) -> dict[str, Any]:
    return {"type": "array", "items": ref(name)}


RULE = {
    "action": {
        "enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts", "RestartJob", "RestartJobAndIgnoreMaxRestarts"]
    },
    "name": TEXT | {"pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
    "onJobFailureMessagePatterns": TEXTS,
    "onJobFailureReasons": TEXTS,
    "targetReplicatedJobs": TEXTS,
}
SPEC = {
    "coordinator": {},
    "failurePolicy": ref("FailurePolicy"),
    "managedBy": TEXT,
    "network": ref("Network"),
    "replicatedJobs": items("ReplicatedJob"),
    "startupPolicy": {},
    "successPolicy": {},
    "suspend": SWITCH,
    "ttlSecondsAfterFinished": WHOLE,
    "volumeClaimPolicies": {"type": "array"},
}
REPLICATED = {"dependsOn": {"type": "array"}, "groupName": TEXT, "name": TEXT, "replicas": WHOLE, "template": ref("V1JobTemplateSpec")}
JOBSET = {
    "JobSet": kind({"apiVersion": TEXT, "kind": TEXT, "metadata": ref("V1ObjectMeta"), "spec": ref("JobSetSpec"), "status": {}}),
    "JobSetSpec": kind(SPEC),
    "FailurePolicy": kind({"maxRestarts": WHOLE, "restartStrategy": TEXT, "rules": items("FailurePolicyRule")}),
    "FailurePolicyRule": kind(RULE, "name", "action"),
    "Network": kind({"enableDNSHostnames": SWITCH, "publishNotReadyAddresses": SWITCH, "subdomain": TEXT}),
    "ReplicatedJob": kind(REPLICATED, "name", "template"),
}
TASK = {
    **{name: TEXT for name in ("name", "workdir", "event_callback", "setup", "run")},
    **{name: OPEN for name in ("resources", "file_mounts", "service", "pool", "envs", "secrets", "config", "volumes")},
    "num_nodes": WHOLE,
}
CODE = WHOLE | {"minimum": 0, "maximum": 255}
RECOVERY = {
    "strategy": TEXT,
    "max_restarts_on_errors": WHOLE | {"minimum": 0},
    "recover_on_exit_codes": {"anyOf": [CODE, {"type": "array", "items": CODE}]},
}


def bare(schema: Any) -> Any:
    """Leave out what does not validate: titles, descriptions, defaults."""
    if isinstance(schema, list):
        return [bare(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key not in ("title", "description", "default")}
    named = ("properties", "$defs")  # whose keys are names of the schema's own
    return {key: {name: bare(each) for name, each in value.items()} if key in named else bare(value) for key, value in kept.items()}


def main() -> None:
    template = bare(V1JobTemplateSpec.model_json_schema())
    known = template.pop("$defs") | {"V1JobTemplateSpec": template}
    kubernetes = {name: known[name] if name in KEPT else {} for name in known}
    record = {"jobset": {"$defs": kubernetes | JOBSET, "$ref": "#/$defs/JobSet"}, "sky": kind(TASK), "sky job_recovery": kind(RECOVERY)}
    Path(__file__).with_name("schemas.json").write_text(json.dumps(record, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
