mod smtp_dialogues;
