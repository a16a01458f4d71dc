// Opens a file in its application: { path }.

function act(given, state) {
  const finder = Application("Finder");
  state.dispatched = true;
  finder.open(Path(given.path));
  return { path: given.path };
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
