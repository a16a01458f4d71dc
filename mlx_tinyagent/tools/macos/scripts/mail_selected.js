// Gives the mail that is selected in Mail, else the newest of the inbox: { source }.
// With `source`, the mail of that id. Dates are seconds since 1970.

function act(given) {
  const mail = Application("Mail");
  let message;
  if (given.source !== null) {
    message = mail.inbox.messages.whose({ id: given.source })()[0];
  } else {
    message = mail.selection()[0];
    if (message === undefined && mail.inbox.messages.length > 0) message = mail.inbox.messages[0];
  }
  if (message === undefined) return { found: false };
  return {
    found: true,
    id: message.id(),
    sender: message.sender(),
    subject: message.subject(),
    body: message.content(),
    received: message.dateReceived().getTime() / 1000,
  };
}

// The rest is the same in every script: one JSON argument in, one JSON document out.

function run(argv) {
  const state = { dispatched: false };
  try {
    return JSON.stringify({ value: act(input(argv), state) });
  } catch (error) {
    const number = typeof error.errorNumber === "number" ? error.errorNumber : 0;
    const message = String(error.message || error);
    return JSON.stringify({ error: { number, message, dispatched: state.dispatched } });
  }
}

function input(argv) {
  const given = JSON.parse(argv[0]);
  if (given.payloadFile === undefined) return given;
  ObjC.import("Foundation");
  const utf8 = 4; // NSUTF8StringEncoding
  const text = $.NSString.stringWithContentsOfFileEncodingError(given.payloadFile, utf8, null);
  return JSON.parse(ObjC.unwrap(text));
}
