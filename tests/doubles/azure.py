"""An Azure OpenAI resource: the v1 API, and the versioned one with its deployments."""

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.doubles.openai import OpenAIDouble
from tests.doubles.wire import Answer, Received, json_answer


class AzureDouble(OpenAIDouble):
    """`models`: what the resource has; a model that can only be fine-tuned is listed too.

    Every model has a deployment of its name and one called `my-NAME`. The list is that of Azure's REST reference
    (Models - List, 2024-10-21).
    """

    name = "azure"
    base_path = "/openai"
    strict = False

    def routed(self, request: Received) -> Answer:
        """/openai/v1/… as OpenAI's; /openai/models and /openai/deployments/NAME/… with an api-version."""
        path = request.route.removeprefix(self.base_path)
        if path.startswith("/v1/"):
            path = path.removeprefix("/v1")
        elif not (version := parse_qs(request.path.partition("?")[2]).get("api-version")):
            return self.failure(404, "Resource not found", "404")
        elif version[0] < "2024-09-01" and b'"stream_options"' in request.body:
            text = "Unknown parameter: 'stream_options'."
            return self.failure(400, text, "unknown_parameter", param="stream_options")
        elif path.startswith("/deployments/"):
            name, _, path = path.removeprefix("/deployments/").partition("/")
            if unquote(name).removeprefix("my-") not in self.models:
                return self.failure(404, "The API deployment for this resource does not exist.", "DeploymentNotFound")
            path = f"/{path}"
        elif path != "/models":
            return self.failure(404, "Resource not found", "404")
        if path == "/models":
            return json_answer({"data": [*map(self.model, self.models), self.listed("only-tuned", False)]})
        return super().routed(replace(request, path=self.base_path + path))

    def model(self, name: str) -> dict[str, Any]:
        return self.listed(name, True)

    def listed(self, name: str, inference: bool) -> dict[str, Any]:
        """One entry of the list."""
        able = {"fine_tune": True, "inference": inference, "completion": False, "chat_completion": True}
        return {
            "status": "succeeded",
            "capabilities": able | {"embeddings": False},
            "lifecycle_status": "generally-available",
            "deprecation": {"inference": 1_893_456_000},
            "id": name,
            "created_at": 1_715_367_049,
            "object": "model",
        }

    def key_of(self, request: Received) -> str:
        return request.header("api-key")
