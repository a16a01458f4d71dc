// Adds a note: { html, folder }. A folder that is not there yet is made; "" is the default one.

function act(given, state) {
  const notes = Application("Notes");
  let folder = notes.defaultAccount.defaultFolder();
  let made = false;
  if (given.folder !== "") {
    const wanted = given.folder.toLowerCase();
    const found = notes.folders().filter((item) => item.name().toLowerCase() === wanted);
    if (found.length > 0) {
      folder = found[0];
    } else {
      folder = notes.Folder({ name: given.folder });
      state.dispatched = true;
      notes.defaultAccount.folders.push(folder);
      made = true;
    }
  }
  const note = notes.Note({ body: given.html });
  state.dispatched = true;
  folder.notes.push(note);
  return { id: note.id(), folder: folder.name(), made };
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
