// A session-manager-plugin for the AWS CLI, made of the npm package `ssm-session`: a client of data channels that nobody
// here wrote. It types what INPUT holds once the task says "ready", and prints what the task says.
"use strict";

console.log = () => {}; // the package tells of every message

if (process.argv.length < 3) process.exit(0); // the AWS CLI asks whether there is a plugin
const { ssm } = require("ssm-session");
const session = JSON.parse(process.argv[2]);
const socket = new WebSocket(session.streamUrl);
socket.binaryType = "arraybuffer";
let said = "";
let hasTyped = false;

socket.onopen = () => ssm.init(socket, { token: session.tokenValue, termOptions: { rows: 34, cols: 197 } });
socket.onclose = () => process.exit(0);
socket.onmessage = (event) => {
  const message = ssm.decode(event.data);
  if (message.messageType === "channel_closed") return socket.close();
  if (message.messageType !== "output_stream_data") return;
  ssm.sendACK(socket, message);
  process.stdout.write(message.payload);
  said += new TextDecoder().decode(message.payload);
  if (!hasTyped && said.includes("ready")) {
    hasTyped = true;
    ssm.sendText(socket, new TextEncoder().encode(process.env.INPUT));
  }
};
