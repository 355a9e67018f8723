"""A model server for tests: a SavedModel behind TensorFlow Serving's REST and gRPC request shapes."""

import base64
import contextlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from concurrent import futures
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


def answered_by_grpc(
    signatures: Mapping[str, Any], request: predict_pb2.PredictRequest
) -> predict_pb2.PredictResponse:
    """What TensorFlow Serving does with a PredictRequest: tensors in, the named signature, tensors out."""
    tensors = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
    name = request.model_spec.signature_name or "serving_default"
    response = predict_pb2.PredictResponse()
    for output, value in signatures[name](**tensors).items():
        response.outputs[output].CopyFrom(tf.make_tensor_proto(value.numpy()))
    return response


def answered_by_rest(signatures: Mapping[str, Any], body: str) -> list[Any]:
    """What TensorFlow Serving does with a body in row format: batch the rows, call, split the answer."""

    def decoded(value: Any) -> Any:
        return base64.b64decode(value["b64"]) if isinstance(value, dict) and "b64" in value else value

    request = json.loads(body)
    signature = signatures[request.get("signature_name", "serving_default")]
    specs = signature.structured_input_signature[1]
    rows = request["instances"]
    if not isinstance(rows[0], dict) or "b64" in rows[0]:
        [only] = specs
        rows = [{only: row} for row in rows]
    columns = {
        name: tf.constant([decoded(row[name]) for row in rows], dtype=spec.dtype)
        for name, spec in specs.items()
    }
    answers = {name: value.numpy() for name, value in signature(**columns).items()}
    assert {len(value) for value in answers.values()} == {len(rows)}
    return [{name: value[row].tolist() for name, value in answers.items()} for row in range(len(rows))]


@contextlib.contextmanager
def serving(folder: str, model: str) -> Iterator[tuple[int, int]]:
    """Serve the SavedModel in `folder` under a name on this machine; give the ports of REST and of gRPC.

    What the model refuses is status 400 with an `error`, and INVALID_ARGUMENT, as with TensorFlow Serving.
    """
    loaded = tf.saved_model.load(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if self.path != f"/v1/models/{model}:predict":
                self.reply(404, {"error": f"there is no {self.path}"})
                return
            try:
                self.reply(200, {"predictions": answered_by_rest(loaded.signatures, body)})
            except tf.errors.InvalidArgumentError as error:
                self.reply(400, {"error": error.message})

        def reply(self, status: int, answer: Any) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *values: Any) -> None: ...

    class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request: Any, context: Any) -> Any:
            try:
                return answered_by_grpc(loaded.signatures, request)
            except tf.errors.InvalidArgumentError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)

    rest = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=rest.serve_forever, args=(0.01,), daemon=True).start()
    remote = grpc.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(), remote)
    port = remote.add_insecure_port("127.0.0.1:0")
    remote.start()
    try:
        yield rest.server_port, port
    finally:
        rest.shutdown()
        rest.server_close()
        remote.stop(None).wait(10)
