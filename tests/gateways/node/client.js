// Connects to the URL that it is given, by the transports that follow it.
//
// Each line on stdin is a JSON list, an event and its arguments, which it emits. Each event that it
// hears it writes to stdout likewise. The end of stdin is the end of it.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const [url, ...transports] = process.argv.slice(2);
const socket = io(url, { transports, reconnection: false });

function tell(...what) {
  process.stdout.write(JSON.stringify(what) + "\n");
}

socket.on("connect", () => tell("(connected)", socket.io.engine.transport.name));
socket.on("connect_error", (error) => tell("(failed)", error.message));
socket.on("disconnect", (reason) => tell("(disconnected)", reason));
socket.onAny((event, ...heard) => tell(event, ...heard));

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => socket.emit(...JSON.parse(line)));
lines.on("close", () => socket.disconnect());
