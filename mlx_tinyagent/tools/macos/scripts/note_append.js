// Adds to the end of a note: { id, html }.

function act(given, state) {
  const notes = Application("Notes");
  const found = notes.notes.whose({ id: given.id })();
  if (found.length === 0) return { missing: "note" };
  const body = found[0].body();
  state.dispatched = true;
  found[0].body = body + given.html;
  return { id: given.id };
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
