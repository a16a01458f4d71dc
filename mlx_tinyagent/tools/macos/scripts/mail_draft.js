// Opens a draft in Mail: { kind, to, cc, subject, body, attachments, source }.
// Nothing is sent. A reply keeps its thread; `source` is the id of the mail that is answered.

function act(given, state) {
  const mail = Application("Mail");
  let draft;
  if (given.kind === "reply" && given.source !== null) {
    const found = mail.inbox.messages.whose({ id: given.source })();
    if (found.length === 0) return { missing: "mail" };
    state.dispatched = true;
    draft = mail.reply(found[0], { openingWindow: true, replyToAll: false });
    draft.content = given.body;
  } else {
    draft = mail.OutgoingMessage({ subject: given.subject, content: given.body, visible: true });
    state.dispatched = true;
    mail.outgoingMessages.push(draft);
    for (const address of given.to) draft.toRecipients.push(mail.ToRecipient({ address }));
  }
  for (const address of given.cc) draft.ccRecipients.push(mail.CcRecipient({ address }));
  for (const path of given.attachments) {
    draft.attachments.push(mail.Attachment({ fileName: Path(path) }));
  }
  return { id: draft.id() };
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
